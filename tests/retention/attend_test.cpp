// Attention over caches that forget, for every policy: the same bits as a masked forward pass over everything, as
// copying what a query sees into a cache of its own, and for any calls, pages and workers.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include <heed/cache/kv_cache.hpp>
#include <heed/cache/rule_mask.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/layer/mla.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/policy/shared_row.hpp>

#include "lists/rules.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"

namespace heed_test::attend_test {
namespace {

using heed::AnyRule;
using heed::Positions;
using Calls = std::vector<Index>;

constexpr Index tokens = 600;

/// The rules of the list with a history, or those without.
std::vector<AnyRule> listed_rules(bool with_history) {
  std::vector<AnyRule> made;
  for (const AnyRule& rule : heed_examples::every_rule({4, 37}, {.anchors = {1, 2}, .separators = {1, 2, 3}})) {
    if (rule.has_history() == with_history) made.push_back(rule);
  }
  return made;
}
/// Also a window that crosses a chunk, and another option.
const std::vector<AnyRule>& mask_rules() {
  static const std::vector<AnyRule> rules = [] {
    std::vector<AnyRule> made = listed_rules(false);
    made.push_back(heed::SlidingWindow{300});
    made.push_back(heed::Anchors{.ids = {1}, .anchor_sees_anchors = true});
    return made;
  }();
  return rules;
}
/// Also a capacity that crosses a chunk, and other options.
const std::vector<AnyRule>& history_rules() {
  static const std::vector<AnyRule> rules = [] {
    std::vector<AnyRule> made = listed_rules(true);
    heed::SeparatorStream stream{.initial = 4, .separators = 20, .local = 60, .capacity = 290, .ids = {1, 2}};
    made.push_back(stream);
    stream = {.initial = 2, .separators = 5, .local = 10, .capacity = 40, .ids = {1, 2}, .bounded = false};
    made.push_back(stream);
    stream.bounded = true;
    stream.form = heed::StreamForm::sep_cache;
    stream.prompt = 30;
    made.push_back(stream);
    return made;
  }();
  return rules;
}

/// A policy under a name, and numbers for it.
template <class P>
struct Subject {
  P policy;
  Index q_width = 0, out_width = 0;
};

Subject<heed::Gqa> gqa() {
  return {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 24, .v_head_dim = 40, .scale = 0.2f}, 4 * 24, 4 * 40};
}
Subject<heed::SharedRow> shared_row() {
  return {{.num_heads = 3, .head_dim = 40, .v_head_dim = 24, .scale = 0.2f}, 3 * 40, 3 * 24};
}
const heed::Rope& rope_of(Index dim) {
  static const heed::Rope rope8 =
      heed::value_or_throw(heed::Rope::create({.head_dim = 8, .layout = heed::RopeLayout::interleaved, .theta = 1e4}));
  static const heed::Rope rope24 =
      heed::value_or_throw(heed::Rope::create({.head_dim = 24, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  return dim == 8 ? rope8 : rope24;
}
Subject<heed::RotatedKeys<heed::Gqa>> rotated_gqa() {
  return {{.policy = gqa().policy, .rope = &rope_of(24)}, 4 * 24, 4 * 40};
}
Subject<heed::MfaKr> mfa_kr() {
  return {{.num_heads = 5, .head_dim = 24, .scale = 0.2f, .rope = &rope_of(24)}, 5 * 24, 5 * 24};
}
heed::Mla mla_shape(bool rotates) {
  static const heed::PackedMlaWeights packed = [] {
    const heed::Mla shape{.num_heads = 3,
                          .kv_lora_rank = 20,
                          .qk_rope_head_dim = 8,
                          .qk_nope_head_dim = 16,
                          .v_head_dim = 12,
                          .scale = 0.2f};
    oracle::Random random(4);
    const std::vector<float> kv_b = random.gaussians(3 * (16 + 12) * 20, 0.2);
    return heed::value_or_throw(heed::PackedMlaWeights::create(shape, {kv_b, 3 * 28, 20}));
  }();
  return {.num_heads = 3,
          .kv_lora_rank = 20,
          .qk_rope_head_dim = 8,
          .qk_nope_head_dim = 16,
          .v_head_dim = 12,
          .scale = 0.2f,
          .weights = packed.weights(),
          .rope = rotates ? &rope_of(8) : nullptr};
}
Subject<heed::Mla> mla(bool rotates) { return {mla_shape(rotates), 3 * 24, 3 * 12}; }
Subject<heed::MlaExpanded> mla_expanded(bool rotates) { return {{mla_shape(rotates)}, 3 * 24, 3 * 12}; }

struct Numbers {
  std::vector<std::int32_t> ids;
  std::vector<float> q;
  std::vector<std::vector<float>> streams;
  std::vector<Index> widths;
};

template <class P>
Numbers numbers_for(const Subject<P>& subject, std::uint64_t seed) {
  oracle::Random random(seed);
  Numbers n;
  for (Index t = 0; t < tokens; ++t) n.ids.push_back(std::int32_t(random.below(8)));
  n.q = random.gaussians(tokens * subject.q_width);
  const heed::AttentionLayout layout = subject.policy.layout();
  for (int s = 0; s < layout.num_streams; ++s) {
    const heed::StreamShape shape = layout.streams[std::size_t(s)];
    n.widths.push_back(shape.num_heads * shape.width);
    n.streams.push_back(random.gaussians(tokens * n.widths.back()));
  }
  return n;
}

std::span<const float> part(const std::vector<float>& all, Index first, Index count, Index width) {
  return std::span(all).subspan(std::size_t(first * width), std::size_t(count * width));
}

struct Output {
  std::vector<float> out, lse;
  friend bool operator==(const Output& a, const Output& b) {
    return std::memcmp(a.out.data(), b.out.data(), a.out.size() * sizeof(float)) == 0 &&
           std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * sizeof(float)) == 0;
  }
};

template <class P>
Output empty_output(const Subject<P>& subject) {
  return {std::vector<float>(std::size_t(tokens * subject.out_width), NAN),
          std::vector<float>(std::size_t(tokens * subject.policy.layout().num_heads), NAN)};
}

/// What one query sees of a view, in a source of its own.
template <class View>
struct Copied {
  using KeyCodec = typename View::KeyCodec;
  using ValueCodec = typename View::ValueCodec;
  const View* view = nullptr;
  Index stage = 0;
  Index keys = 0;
  [[nodiscard]] Index size() const { return keys; }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index) const {
    return view->stage_row_run(stage, stream, head, first, 1);
  }
  [[nodiscard]] Index position(Index key) const { return view->stage_position(stage, key); }
};

/// Feeds all tokens in calls of these sizes. `copied`: attends query by query to copies of the lists.
template <class Codec, class P>
Output feed(const Subject<P>& subject, const Numbers& n, const AnyRule& rule, const heed::CacheOptions& options,
            const Calls& calls, Index workers = 1, bool copied = false) {
  auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
  auto cache = heed::value_or_throw(heed::KvCache<P, Codec>::create(subject.policy, options, rule));
  heed::Workspace workspace;
  Output all = empty_output(subject);
  const Index heads = subject.policy.layout().num_heads;
  Index at = 0;
  for (const Index count : calls) {
    auto step = heed::value_or_throw(cache.begin(std::span(n.ids).subspan(std::size_t(at), std::size_t(count))));
    for (std::size_t s = 0; s < n.streams.size(); ++s) {
      heed::check(step.write(0, int(s), part(n.streams[s], at, count, n.widths[s])));
    }
    const auto view = step.keys(0);
    const auto out = [&](std::vector<float>& to, Index first, Index rows, Index width) {
      return std::span(to).subspan(std::size_t(first * width), std::size_t(rows * width));
    };
    if (!copied) {
      heed::check(heed::attend<Backend>(subject.policy, part(n.q, at, count, subject.q_width), view,
                                        out(all.out, at, count, subject.out_width), workspace, *pool, {},
                                        out(all.lse, at, count, heads)));
    }
    for (Index stage = 0; copied && stage < view.stages(); ++stage) {
      const heed::Interval queries = view.stage_queries(stage);
      for (Index i = queries.begin; i < queries.end; ++i) {
        const Copied<std::remove_cvref_t<decltype(view)>> list{&view, stage,
                                                               view.stage_size(stage) - (queries.end - 1 - i)};
        heed::check(heed::attend<Backend>(subject.policy, part(n.q, at + i, 1, subject.q_width), list, heed::Causal{},
                                          out(all.out, at + i, 1, subject.out_width), workspace, *pool, {},
                                          out(all.lse, at + i, 1, heads)));
      }
    }
    heed::check(step.commit());
    at += count;
  }
  return all;
}

Calls random_calls(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Calls calls;
  for (Index left = tokens; left > 0; left -= calls.back()) {
    const Index most = random() % 3 == 0 ? 200 : 9;
    calls.push_back(std::min<Index>(left, 1 + Index(random() % std::uint64_t(most))));
  }
  return calls;
}
const Calls one_by_one(std::size_t(tokens), 1);

/// Rules that are masks: a cache that forgets gives the bits of the masked whole.
template <class Codec, class P>
void expect_masked_bits(const Subject<P>& subject, std::uint64_t seed) {
  const Numbers n = numbers_for(subject, seed);
  for (const AnyRule& rule : mask_rules()) {
    SCOPED_TRACE(rule.name());
    const auto mask_of = heed::value_or_throw(heed::RuleMask::create(rule, n.ids));
    const heed::LandmarkMask mask = mask_of.mask();
    auto cache = heed::value_or_throw(heed::KvCache<P, Codec>::create(subject.policy, {}));
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(tokens)));
    for (std::size_t s = 0; s < n.streams.size(); ++s) heed::check(step.write(0, int(s), n.streams[s]));
    Output whole = empty_output(subject);
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    heed::check(
        heed::attend<Backend>(subject.policy, n.q, step.keys(0), mask, whole.out, workspace, serial, {}, whole.lse));
    for (const float x : whole.out) ASSERT_TRUE(std::isfinite(x));
    EXPECT_TRUE((feed<Codec>(subject, n, rule, {}, {tokens})) == whole) << "one call";
    EXPECT_TRUE((feed<Codec>(subject, n, rule, {.page_tokens = 7}, one_by_one)) == whole) << "one by one";
    EXPECT_TRUE((feed<Codec>(subject, n, rule, {.page_tokens = 256}, random_calls(seed), 3)) == whole) << "any calls";
    EXPECT_TRUE((feed<Codec>(subject, n, rule, {.undo_tokens = 11}, random_calls(seed + 1))) == whole) << "with slack";
  }
}

/// Rules with a history, and in-cache ranks: as if each query had a cache of its own.
template <class Codec, class P>
void expect_copied_bits(const Subject<P>& subject, const std::vector<AnyRule>& rules, Positions positions,
                        std::uint64_t seed) {
  const Numbers n = numbers_for(subject, seed);
  for (const AnyRule& rule : rules) {
    SCOPED_TRACE(rule.name());
    const heed::CacheOptions options{.positions = positions};
    const Output copied = feed<Codec>(subject, n, rule, options, one_by_one, 1, true);
    for (const float x : copied.out) ASSERT_TRUE(std::isfinite(x));
    EXPECT_TRUE((feed<Codec>(subject, n, rule, options, one_by_one)) == copied) << "one by one";
    EXPECT_TRUE((feed<Codec>(subject, n, rule, options, {tokens})) == copied) << "one call";
    EXPECT_TRUE((feed<Codec>(subject, n, rule, {.positions = positions, .page_tokens = 7}, random_calls(seed), 3)) ==
                copied)
        << "any calls";
    EXPECT_TRUE((feed<Codec>(subject, n, rule, {.positions = positions, .undo_tokens = 11}, random_calls(seed + 1))) ==
                copied)
        << "with slack";
  }
}
std::vector<AnyRule> ranked_rules() {
  std::vector<AnyRule> rules = history_rules();
  for (const AnyRule& rule : listed_rules(false)) {
    if (rule.has_ranks()) rules.push_back(rule);
  }
  return rules;
}

TEST(RetentionAttend, MaskedGqa) { expect_masked_bits<heed::F32>(gqa(), 1); }
TEST(RetentionAttend, MaskedGqaBf16) { expect_masked_bits<heed::Bf16>(gqa(), 2); }
TEST(RetentionAttend, MaskedSharedRow) { expect_masked_bits<heed::Bf16>(shared_row(), 3); }
TEST(RetentionAttend, MaskedMla) { expect_masked_bits<heed::F32>(mla(false), 4); }
TEST(RetentionAttend, MaskedMlaThatRotates) { expect_masked_bits<heed::Bf16>(mla(true), 5); }
TEST(RetentionAttend, MaskedMlaExpanded) { expect_masked_bits<heed::F32>(mla_expanded(false), 6); }
TEST(RetentionAttend, MaskedMfaKr) { expect_masked_bits<heed::F32>(mfa_kr(), 7); }
TEST(RetentionAttend, MaskedRotatedGqa) { expect_masked_bits<heed::F32>(rotated_gqa(), 8); }

TEST(RetentionAttend, StreamGqaAbsolute) {
  expect_copied_bits<heed::Bf16>(gqa(), history_rules(), Positions::absolute, 11);
}
TEST(RetentionAttend, StreamMlaAbsolute) {
  expect_copied_bits<heed::F32>(mla(false), history_rules(), Positions::absolute, 12);
}
TEST(RetentionAttend, RanksGqa) { expect_copied_bits<heed::F32>(rotated_gqa(), ranked_rules(), Positions::rank, 13); }
TEST(RetentionAttend, RanksMla) { expect_copied_bits<heed::F32>(mla(true), ranked_rules(), Positions::rank, 14); }
TEST(RetentionAttend, RanksMlaExpanded) {
  expect_copied_bits<heed::F32>(mla_expanded(true), ranked_rules(), Positions::rank, 15);
}
TEST(RetentionAttend, RanksMfaKr) { expect_copied_bits<heed::Bf16>(mfa_kr(), ranked_rules(), Positions::rank, 16); }

/// MLA whose rows rotate at read is MLA whose rows came rotated.
TEST(RetentionAttend, MlaRotatesAtReadAsAtWrite) {
  const Subject<heed::Mla> at_write = mla(false), at_read = mla(true);
  Numbers n = numbers_for(at_read, 17);
  const Output read = feed<heed::F32>(at_read, n, heed::Causal{}, {}, random_calls(1));
  const Output expanded = feed<heed::F32>(mla_expanded(true), n, heed::Causal{}, {}, random_calls(1));
  for (Index t = 0; t < tokens; ++t) rope_of(8).apply(t, n.streams[0].data() + t * 28 + 20);
  EXPECT_TRUE((feed<heed::F32>(at_write, n, heed::Causal{}, {}, random_calls(2))) == read);
  EXPECT_TRUE((feed<heed::F32>(mla_expanded(false), n, heed::Causal{}, {}, random_calls(2))) == expanded);
}

}  // namespace
}  // namespace heed_test::attend_test
