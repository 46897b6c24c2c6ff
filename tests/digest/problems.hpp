/// \file
/// The problems: every mechanism, codec pair and rule, in steps of different sizes, with options in turn.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/compiled.hpp>
#include <heed/exec/serial.hpp>
#include <heed/math/maths.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/policy/mla.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/policy/shared_row.hpp>

#include "digest/digest.hpp"
#include "lists/policies.hpp"
#include "lists/rules.hpp"

namespace heed_digest {

struct NamedRule {
  const char* name;
  heed::AnyRule rule;
  heed::Positions positions = heed::Positions::absolute;
};

/// Rules whose queries see a few keys, a chunk, and more than a chunk. Tokens 1 and 2 are marks.
[[nodiscard]] inline std::vector<NamedRule> rules() {
  return {
      {"causal", heed::Causal{}},
      {"window:50", heed::SlidingWindow{50}},
      {"window:300", heed::SlidingWindow{300}},
      {"sinks:4,90", heed::SinkWindow{4, 90}},
      {"anchors", heed::Anchors{{1, 2}}},
      {"separators:3,64", heed::Separators{3, 64, {1, 2}}},
      {"grid:2,40,7", heed::FixedGrid{2, 40, 7}},
      {"stream", heed::SeparatorStream{.initial = 2, .separators = 12, .local = 40, .capacity = 90, .ids = {1, 2}}}};
}
/// Rules that number what they hold: keys turn when they are read.
[[nodiscard]] inline std::vector<NamedRule> rank_rules() {
  return {{"ranks sinks:4,90", heed::SinkWindow{4, 90}, heed::Positions::rank},
          {"ranks stream",
           heed::SeparatorStream{.initial = 2, .separators = 12, .local = 40, .capacity = 90, .ids = {1, 2}},
           heed::Positions::rank}};
}

/// Rules of the list that no problem above has.
[[nodiscard]] inline std::vector<NamedRule> later_rules() {
  std::vector<NamedRule> made;
  for (const heed_examples::RuleKind& kind : heed_examples::rule_kinds()) {
    const heed::AnyRule rule = kind.rule({4, 60}, {.anchors = {1, 2}, .separators = {1, 2}});
    const auto has_name = [&](const NamedRule& one) { return std::string_view(one.rule.name()) == rule.name(); };
    const std::vector<NamedRule> recorded = rules();
    if (std::none_of(recorded.begin(), recorded.end(), has_name)) made.push_back({kind.name, rule});
  }
  return made;
}

/// One text through a cache, in steps: a prompt over a chunk's border, single tokens, drafts, a later chunk.
template <class C, class P, class CachePolicy>
[[nodiscard]] std::string digest(const heed::Kernel& kernel, const P& policy, const CachePolicy& cached,
                                 const NamedRule& rule, Index q_width, Index out_width, int options_number,
                                 std::uint64_t seed) {
  Numbers numbers(seed);
  auto made = heed::KvCache<CachePolicy, C>::create(cached, {.layers = 1, .positions = rule.positions}, rule.rule);
  if (!made.ok()) std::fprintf(stderr, "%s\n", made.status().message().c_str()), std::exit(1);
  auto& cache = *made;
  const heed::AttentionLayout layout = policy.layout();
  const std::vector<float> slopes = numbers.rows(layout.num_heads, 0.02f), sinks = numbers.rows(layout.num_heads);
  heed::AttendOptions options;
  if (options_number == 1) options.alibi_slopes = slopes;
  if (options_number == 2) options.sink_logits = sinks;
  if (options_number == 3) options.soft_cap = 7;

  Digest digest;
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  for (const Index tokens : {270, 1, 4, 1, 33, 8, 1}) {
    std::vector<std::int32_t> ids;
    for (Index i = 0; i < tokens; ++i) ids.push_back(std::int32_t(numbers.below(9)));
    auto step = cache.begin(ids);
    if (!step.ok()) std::fprintf(stderr, "%s\n", step.status().message().c_str()), std::exit(1);
    for (int stream = 0; stream < layout.num_streams; ++stream) {
      const heed::StreamShape shape = layout.streams[std::size_t(stream)];
      const auto rows = numbers.rows(tokens * shape.num_heads * shape.width);
      if (!step->write(0, stream, rows).ok()) std::exit(1);
    }
    const auto q = numbers.rows(tokens * layout.num_heads * q_width);
    std::vector<float> out(std::size_t(tokens * layout.num_heads * out_width));
    std::vector<float> lse(std::size_t(tokens * layout.num_heads));
    const heed::Status status =
        heed::attend(kernel, policy, q, step->keys(0), out, workspace, serial, options, lse);
    if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str()), std::exit(1);
    digest.add(out);
    digest.add(lse);
    if (!step->commit().ok()) std::exit(1);
  }
  return digest.text();
}

/// The kernels of one backend and one math, one for each codec of keys and values alike.
using Kernels = std::array<const heed::Kernel*, heed::Codecs::size>;

template <class Backend, class Math>
[[nodiscard]] Kernels kernels_of() {
  Kernels kernels{};
  std::size_t next = 0;
  heed::Codecs::for_each([&]<class C>() { kernels[next++] = &heed::kernel<Backend, C, C, Math>(); });
  return kernels;
}

/// All problems of one backend in one math. Numbers and options of a problem follow from its place, so what came to the
/// lists after the digests were recorded has places of its own: each further math, codec, rule and policy begins anew.
class Problems {
 public:
  explicit Problems(const Kernels& kernels) : kernels_(kernels) {}

  [[nodiscard]] std::vector<Line> run() {
    for_codecs("gqa 8/2 64", gqa(), 64, 64);
    for_codecs("gqa 9/3 40,24",
               heed::Gqa{.num_heads = 9, .num_kv_heads = 3, .head_dim = 40, .v_head_dim = 24, .scale = 0.2f}, 40, 24);
    for_codecs("mha 2 33", heed::Mha{.num_heads = 2, .head_dim = 33, .scale = 0.2f}, 33, 33);
    for_codecs("mqa 5 128", heed::Mqa{.num_heads = 5, .head_dim = 128, .scale = 0.09f}, 128, 128);
    for_codecs("mfa 16 64", heed::Mfa{.num_heads = 16, .head_dim = 64, .scale = 0.125f}, 64, 64);
    shared();
    std::vector<Line> lines = std::move(lines_);
    heed::Codecs::for_each([&]<class C>() {
      if constexpr (!Recorded::has<C>) append(lines, Problems(kernels_).of_codec<C>());
    });
    for (const NamedRule& rule : later_rules()) append(lines, Problems(kernels_).of_rule(rule));
    heed_test::for_each_policy({.heads = 4, .kv_heads = 2, .width = 64, .v_width = 40}, [&](const auto& one) {
      if constexpr (!RecordedPolicies::has<std::remove_cvref_t<decltype(one.policy)>>) {
        append(lines, Problems(kernels_).of_policy(one));
      }
    });
    return lines;
  }

 private:
  using Recorded = heed::List<heed::F32, heed::Bf16, heed::F16>;
  using RecordedPolicies = heed::List<heed::Gqa, heed::Mha, heed::Mqa, heed::Mfa, heed::SharedRow, heed::MfaKr,
                                      heed::Mla, heed::MlaExpanded>;

  static void append(std::vector<Line>& to, const std::vector<Line>& more) {
    to.insert(to.end(), more.begin(), more.end());
  }
  [[nodiscard]] static heed::Gqa gqa() { return {.num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .scale = 0.125f}; }
  template <class C>
  [[nodiscard]] std::vector<Line> of_codec() {
    for (const NamedRule& rule : rules()) add<C>("gqa 8/2 64", gqa(), gqa(), rule, 64, 64);
    return std::move(lines_);
  }
  [[nodiscard]] std::vector<Line> of_policy(const auto& one) {
    for (const NamedRule& rule : rules()) {
      add<heed::F32>(one.name, one.policy, one.cached, rule, one.q_width, one.out_width);
    }
    return std::move(lines_);
  }
  [[nodiscard]] std::vector<Line> of_rule(const NamedRule& rule) {
    add<heed::F32>("gqa 8/2 64", gqa(), gqa(), rule, 64, 64);
    return std::move(lines_);
  }
  template <class P>
  void for_codecs(const char* name, const P& policy, Index q_width, Index out_width) {
    for (const NamedRule& rule : rules()) {
      Recorded::for_each([&]<class C>() { add<C>(name, policy, policy, rule, q_width, out_width); });
    }
  }
  /// Mechanisms with one stream, and with keys that turn when they are read.
  void shared() {
    const auto make = [](Index head_dim) {
      return heed::value_or_throw(
          heed::Rope::create({.head_dim = head_dim, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
    };
    const heed::Rope rope = make(64), part = make(16);
    Numbers numbers(99);
    const heed::SharedRow row{.num_heads = 9, .num_kv_heads = 1, .head_dim = 72, .v_head_dim = 64, .scale = 0.12f};
    const heed::MfaKr kr{.num_heads = 6, .head_dim = 64, .scale = 0.125f, .rope = &rope};
    heed::Mla mla{.num_heads = 4,
                  .kv_lora_rank = 64,
                  .qk_rope_head_dim = 16,
                  .qk_nope_head_dim = 32,
                  .v_head_dim = 24,
                  .scale = 0.14f};
    const auto uk = numbers.rows(4 * 32 * 64, 0.125f), ukv = numbers.rows(4 * 64 * (32 + 24), 0.125f);
    mla.weights = {uk, ukv};
    heed::Mla turned = mla;
    turned.rope = &part;
    const heed::RotatedKeys<heed::Gqa> unrotated{{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .scale = 0.125f},
                                                 &rope};
    const auto both = [&](const NamedRule& rule, const heed::Mla& form) {
      add<heed::F32>("mla 4 64+16", form, form, rule, 48, 24);
      add<heed::Bf16>("mla 4 64+16", form, form, rule, 48, 24);
      add<heed::Bf16>("mla_expanded 4 64+16", heed::MlaExpanded{form}, form, rule, 48, 24);
    };
    for (const NamedRule& rule : rules()) {
      add<heed::F32>("shared_row 9 72,64", row, row, rule, 72, 64);
      add<heed::F16>("shared_row 9 72,64", row, row, rule, 72, 64);
      add<heed::Bf16>("mfa_kr 6 64", kr, kr, rule, 64, 64);
      both(rule, mla);
    }
    for (const NamedRule& rule : rank_rules()) {
      add<heed::F32>("rotated gqa 4/2 64", unrotated, unrotated, rule, 64, 64);
      add<heed::Bf16>("rotated gqa 4/2 64", unrotated, unrotated, rule, 64, 64);
      both(rule, turned);
    }
  }

  template <class C, class P, class CachePolicy>
  void add(const char* mechanism, const P& policy, const CachePolicy& cached, const NamedRule& rule, Index q_width,
           Index out_width) {
    const auto has_codec = [](const heed::Kernel* kernel) { return std::string_view(kernel->key_codec) == C::name; };
    const heed::Kernel& kernel = **std::find_if(kernels_.begin(), kernels_.end(), has_codec);
    // The soft-cap's tanh is each backend's own.
    const std::string names[] = {"", " | alibi", " | sinks", std::string(" | cap of ") + kernel.backend};
    const int options = int(lines_.size() % 4);
    std::string problem = std::string(mechanism) + " | " + C::name + " | " + rule.name + names[options];
    if (std::string_view(kernel.math) != heed::Maths::First::name) problem += std::string(" | ") + kernel.math;
    lines_.push_back({problem, digest<C>(kernel, policy, cached, rule, q_width, out_width, options,
                                         std::uint64_t(lines_.size()) + 1)});
  }

  Kernels kernels_;
  std::vector<Line> lines_;
};

/// What a backend makes of all problems, in every math.
template <class Backend>
[[nodiscard]] std::vector<Line> all_problems() {
  std::vector<Line> lines;
  heed::Maths::for_each([&]<class Math>() {
    const std::vector<Line> more = Problems(kernels_of<Backend, Math>()).run();
    lines.insert(lines.end(), more.begin(), more.end());
  });
  return lines;
}

}  // namespace heed_digest
