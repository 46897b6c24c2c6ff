// Anchors (AnLLM), separators (SepLLM: mask and stream) and StreamingLLM: what queries see, what the cache holds after
// every call, and attention over it, each token for token.
#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <heed/cache/rule_mask.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>

#include "golden/handlers/cached_run.hpp"
#include "golden/handlers/checks.hpp"
#include "golden/handlers/product.hpp"
#include "golden/handlers/rope_config.hpp"
#include "golden/kernels.hpp"
#include "golden/tolerances.hpp"
#include "oracle/attention.hpp"

namespace heed_golden::retention_handler {
namespace {

using Ids = std::vector<std::int32_t>;
using Lists = std::vector<std::vector<Int>>;

// What a rule made of a sequence: the keys each token saw, and what was held after each call.
struct Trace {
  Lists seen, kept;
};

heed::TokenSet token_set(const std::vector<Int>& ids) { return heed::TokenSet(Ids(ids.begin(), ids.end())); }
Ids read_ids(Case& one, const std::string& name) {
  const auto ids = one.get<Int>(name, {-1});
  return {ids.begin(), ids.end()};
}

// The rows of an index list without their padding of -1.
Lists read_lists(Case& one, const std::string& name) {
  const TensorShape shape = one.shape(name);
  const auto all = one.get<Int>(name, {shape.at(0), shape.at(1)});
  Lists lists;
  for (auto row = all.begin(); row != all.end(); row += shape[1]) {
    lists.emplace_back(row, std::find(row, row + shape[1], Int{-1}));
  }
  return lists;
}
std::vector<Int> lengths(const Lists& lists) {
  std::vector<Int> sizes;
  for (const auto& list : lists) sizes.push_back(Int(list.size()));
  return sizes;
}
std::vector<Int> singles(std::size_t tokens) { return std::vector<Int>(tokens, 1); }

// --- lists ---------------------------------------------------------------------------------------------------------

template <class View>
std::vector<Int> seen_by(const View& view, Int query, Int position) {
  std::vector<Int> seen;
  for (Int stage = 0; stage < view.stages(); ++stage) {
    const heed::Interval queries = view.stage_queries(stage);
    if (query < queries.begin || query >= queries.end) continue;
    const Int size = view.stage_size(stage) - (queries.end - 1 - query);
    for (Int key = 0; key < size; ++key) seen.push_back(view.stage_position(stage, key));
  }
  if (view.stages() > 0) return seen;
  const auto& mask = view.mask();
  for (Int i = 0; i < mask.far_keys(); ++i) {
    if (mask.far_visible(position, i)) seen.push_back(view.position(mask.far_key(i)));
  }
  for (Int key = mask.near_keys().first_key; key < view.size(); ++key) {
    if (mask.near_visible(position, view.position(key))) seen.push_back(view.position(key));
  }
  return seen;
}

// Tokens without rows worth mentioning, in calls of these sizes.
Trace trace(const heed::AnyRule& rule, const Ids& ids, const std::vector<Int>& calls) {
  using Cache = heed::KvCache<heed::Mqa, heed::F32>;
  auto cache =
      heed::value_or_throw(Cache::create({.num_heads = 1, .head_dim = 1, .scale = 1}, {.page_tokens = 5}, rule));
  Trace trace;
  Int at = 0;
  for (const Int count : calls) {
    auto step = heed::value_or_throw(cache.begin(std::span(ids).subspan(std::size_t(at), std::size_t(count))));
    const std::vector<float> rows(std::size_t(count), 0.0f);
    heed::check(step.write(0, rows, rows));
    for (Int i = 0; i < count; ++i) trace.seen.push_back(seen_by(step.keys(0), i, at + i));
    heed::check(step.commit());
    std::vector<Int> kept;
    for (Int key = 0; key < cache.size(); ++key) kept.push_back(cache.position(key));
    trace.kept.push_back(std::move(kept));
    at += count;
  }
  return trace;
}

void check_lists(const std::string& what, const Lists& got, const Lists& want, Report& report) {
  std::size_t same = 0;
  while (same < std::min(got.size(), want.size()) && got[same] == want[same]) ++same;
  report.require(what + " (" + std::to_string(want.size()) + " lists, the first " + std::to_string(same) + " agree)",
                 got == want);
}

// A mask tensor [..., tokens, tokens] against what queries saw.
void check_mask(Case& one, const std::string& name, const Lists& seen, Report& report) {
  const TensorShape shape = one.shape(name);
  const auto want = one.get<Int>(name, shape);
  const auto tokens = Int(seen.size());
  std::size_t wrong = shape.back() == tokens && want.size() > 0 ? 0 : 1;
  for (std::size_t at = 0; wrong == 0 && at < want.size(); ++at) {
    const auto query = std::size_t(Int(at) / tokens % tokens);
    const bool visible = std::binary_search(seen[query].begin(), seen[query].end(), Int(at) % tokens);
    wrong += visible != (want[at] != 0);
  }
  report.require(name + ": " + std::to_string(want.size()) + " entries", wrong == 0);
}

// The rule's own mask over the whole text says the same.
void check_rule_mask(const heed::AnyRule& rule, const Ids& ids, const Lists& seen, Report& report) {
  const auto whole = heed::value_or_throw(heed::RuleMask::create(rule, ids));
  const heed::LandmarkMask mask = whole.mask();
  std::size_t wrong = 0;
  for (Int i = 0; i < Int(ids.size()); ++i) {
    for (Int j = 0; j < Int(ids.size()); ++j) {
      const auto& list = seen[std::size_t(i)];
      wrong += mask.visible(i, j) != std::binary_search(list.begin(), list.end(), j);
    }
  }
  report.require("RuleMask says the same", wrong == 0);
}

// --- attention -----------------------------------------------------------------------------------------------------

struct Sequence {
  heed::Gqa shape;
  heed::Positions positions = heed::Positions::absolute;
  RotationPair rotation;
  Ids ids;
  std::vector<float> q, k, v;  ///< before RoPE
};

Sequence read_sequence(Case& one) {
  Config& config = one.config;
  Sequence s;
  s.shape = {.num_heads = config.get<Int>("num_attention_heads"),
             .num_kv_heads = config.get<Int>("num_key_value_heads"),
             .head_dim = config.get<Int>("head_dim"),
             .v_head_dim = 0,
             .scale = float(config.get<double>("softmax_scale"))};
  s.shape.v_head_dim = s.shape.head_dim;
  s.rotation = read_rotation(config, s.shape.head_dim);
  const auto positions = config.get<std::string>("positions");
  s.positions = positions == "absolute" ? heed::Positions::absolute : heed::Positions::rank;
  if (positions != "absolute" && !positions.starts_with("in-cache rank")) throw Unusable("positions: " + positions);
  s.ids = read_ids(one, "ids");
  const auto tokens = Int(s.ids.size());
  const std::string suffix = s.positions == heed::Positions::rank ? "unrotated" : "pre_rope";
  const auto read = [&](const std::string& name, Int heads) {
    return floats(one.get<double>(name, {tokens, heads, s.shape.head_dim}));
  };
  s.q = read("q_" + suffix, s.shape.num_heads);
  s.k = read("k_" + suffix, s.shape.num_kv_heads);
  s.v = read("v", s.shape.num_kv_heads);
  return s;
}

struct RetentionRun {
  std::vector<float> o, lse;
  std::vector<float> q, keys, values;  ///< as rotated, and as stored
  Lists kept;
  std::vector<Int> attended;  ///< keys the last query of each call saw
};

// Feeds a sequence to a cache with this rule.
template <class Backend, class Codec, heed::AttentionPolicy P>
RetentionRun run(const Sequence& s, const P& policy, const heed::AnyRule& rule, const std::vector<Int>& calls,
                 Int page_tokens) {
  auto cache = heed::value_or_throw(
      heed::KvCache<P, Codec>::create(policy, {.positions = s.positions, .page_tokens = page_tokens}, rule));
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const Int heads = s.shape.num_heads, kv_heads = s.shape.num_kv_heads, dim = s.shape.head_dim;
  RetentionRun r;
  Int at = 0;
  const auto part = [&](const std::vector<float>& all, Int count, Int width) { return slice(all, at, count, width); };
  for (const Int count : calls) {
    auto step = heed::value_or_throw(cache.begin(std::span(s.ids).subspan(std::size_t(at), std::size_t(count))));
    std::vector<float> q = part(s.q, count, heads * dim), k = part(s.k, count, kv_heads * dim);
    const std::vector<float> v = part(s.v, count, kv_heads * dim);
    const std::span<const heed::Index> positions = step.positions(0);
    if (s.rotation.rope) {
      heed::check(s.rotation.rope->apply_rows(positions, heads, q));
      if (s.positions == heed::Positions::absolute) heed::check(s.rotation.rope->apply_rows(positions, kv_heads, k));
    }
    heed::check(step.write(0, k, v));
    const auto view = step.keys(0);
    std::vector<float> o(std::size_t(count * heads * dim)), lse(std::size_t(count * heads)),
        row(std::size_t(dim), 0.0f);
    heed::check(heed::attend<Backend>(policy, q, view, o, workspace, executor, {}, lse));
    for (Int i = 0; i < count; ++i) {
      for (const int stream : {0, 1}) {
        for (Int head = 0; head < kv_heads; ++head) {
          Codec::decode(view.row_run(stream, head, view.size() - count + i, 1).data, dim, row.data());
          auto& to = stream == 0 ? r.keys : r.values;
          to.insert(to.end(), row.begin(), row.end());
        }
      }
    }
    heed::check(step.commit());
    r.o.insert(r.o.end(), o.begin(), o.end());
    r.lse.insert(r.lse.end(), lse.begin(), lse.end());
    r.q.insert(r.q.end(), q.begin(), q.end());
    std::vector<Int> kept;
    for (Int key = 0; key < cache.size(); ++key) kept.push_back(cache.position(key));
    r.kept.push_back(std::move(kept));
    r.attended.push_back(cache.retention().last_seen);
    at += count;
  }
  return r;
}

template <class Backend, class Codec>
RetentionRun run(const Sequence& s, const heed::AnyRule& rule, const std::vector<Int>& calls, Int page_tokens = 64) {
  if (s.positions == heed::Positions::absolute) return run<Backend, Codec>(s, s.shape, rule, calls, page_tokens);
  if (!s.rotation.rope) throw Unusable("in-cache ranks without RoPE");
  const heed::RotatedKeys<heed::Gqa> policy{.policy = s.shape, .rope = &*s.rotation.rope};
  return run<Backend, Codec>(s, policy, rule, calls, page_tokens);
}

// Every row against float64 attention over copies of the stored rows that its query should see.
void check_rows_against_oracle(const Sequence& s, const Lists& seen, const RetentionRun& r, Report& report) {
  const Int heads = s.shape.num_heads, kv_heads = s.shape.num_kv_heads, dim = s.shape.head_dim;
  double worst_output = 0, worst_lse = 0;
  for (Int t = 0; t < Int(seen.size()); ++t) {
    const auto& keys = seen[std::size_t(t)];
    oracle::Problem p{
        .heads = heads, .kv_heads = kv_heads, .key_dim = dim, .value_dim = dim, .scale = double(s.shape.scale)};
    p.q = oracle::doubles(slice(r.q, t, 1, heads * dim));
    std::vector<heed::Index> ranks;
    for (const Int key : keys) {
      const auto k = slice(r.keys, key, 1, kv_heads * dim), v = slice(r.values, key, 1, kv_heads * dim);
      p.k.insert(p.k.end(), k.begin(), k.end());
      p.v.insert(p.v.end(), v.begin(), v.end());
      ranks.push_back(Int(ranks.size()));
    }
    if (s.positions == heed::Positions::rank) p.k = s.rotation.exact.rotated(p.k, dim, ranks);
    p.visible = [](Int, Int) { return true; };
    const oracle::Answer answer = oracle::attention(p);
    worst_output = std::max(worst_output, oracle::worst_output(slice(r.o, t, 1, heads * dim), answer));
    worst_lse = std::max(worst_lse, oracle::worst_lse(slice(r.lse, t, 1, heads), answer));
  }
  report.bound("o against the oracle on the stored rows, in units of the bound", worst_output);
  report.bound("lse against the oracle, in units of the bound", worst_lse);
}

bool same(const RetentionRun& a, const RetentionRun& b) { return same_bits(a.o, b.o) && same_bits(a.lse, b.lse); }

template <class Backend, class Codec>
void compare(Case& one, const Setup& setup, const heed::AnyRule& rule, Report& report) {
  const Sequence s = read_sequence(one);
  const auto tokens = Int(s.ids.size());
  const auto calls = call_sizes(one, tokens);
  const auto by_token = singles(s.ids.size());
  const Trace steps = trace(rule, s.ids, by_token);
  const bool is_case_by_token = !one.has("chunk_lens");
  const RetentionRun main = run<Backend, Codec>(s, rule, is_case_by_token ? by_token : calls);

  if (one.has("visible")) check_mask(one, "visible", steps.seen, report);
  if (!rule.has_history()) check_rule_mask(rule, s.ids, steps.seen, report);
  check_lists("kept after each call", main.kept, read_lists(one, "kept_idx"), report);
  report.require("number of keys kept", lengths(main.kept) == one.get<Int>("kept_len", {-1}));
  if (one.has("kept_idx_token_by_token")) {
    check_lists("kept after each token", steps.kept, read_lists(one, "kept_idx_token_by_token"), report);
  }
  if (one.has("attended_len")) {
    report.require("number of keys seen", main.attended == one.get<Int>("attended_len", {-1}));
  }
  check_rows_against_oracle(s, steps.seen, main, report);
  if (setup.codec == "f32") {
    Tolerances tolerance;
    tolerance.farthest = s.rotation.rope ? tokens : 0;
    const References references{one, tolerance, report};
    references.output("o_heads", {tokens, s.shape.num_heads, s.shape.head_dim}, main.o);
    references.output("lse", {tokens, s.shape.num_heads}, main.lse);
  } else {
    skip_references(one, {"o_heads", "lse"});
  }
  // Official code stores its result as well as the formula's.
  if (one.has("o_heads") && one.has("o_heads_f64")) std::ignore = one.get<double>("o_heads", one.shape("o_heads"));

  for (const auto& [name, other] : other_call_sizes(tokens)) {
    report.require(name + " gives the same bits", same(run<Backend, Codec>(s, rule, other), main));
  }
  report.require("pages of 3 tokens give the same bits", same(run<Backend, Codec>(s, rule, calls, 3), main));
  if (rule.has_history() || s.positions == heed::Positions::rank) return;
  // A forward pass over everything, under the mask.
  const auto whole = heed::value_or_throw(heed::RuleMask::create(rule, s.ids));
  auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, Codec>::create(s.shape, {}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(tokens)));
  std::vector<float> k = s.k, o(main.o.size()), lse(main.lse.size());
  std::vector<heed::Index> positions(s.ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  if (s.rotation.rope) heed::check(s.rotation.rope->apply_rows(positions, s.shape.num_kv_heads, k));
  heed::check(step.write(0, k, s.v));
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::LandmarkMask mask = whole.mask();
  heed::check(heed::attend<Backend>(s.shape, main.q, step.keys(0), mask, o, workspace, executor, {}, lse));
  report.require("the masked forward pass gives the same bits", same_bits(o, main.o) && same_bits(lse, main.lse));
}

void compare(Case& one, const Setup& setup, const heed::AnyRule& rule, Report& report) {
  with_kernel(setup, [&]<class Backend, class Codec>() { compare<Backend, Codec>(one, setup, rule, report); });
}

// --- mechanisms ----------------------------------------------------------------------------------------------------

std::string numbered(const std::string& name, std::size_t i) { return name + "_" + std::to_string(i); }

void run_anchors(Case& one, const Setup& setup, Report& report) {
  const auto cases = one.config.get_or<std::size_t>("n_cases", 0);
  for (std::size_t i = 0; i < cases; ++i) {
    const Ids ids = read_ids(one, numbered("ids", i));
    const heed::Anchors rule{token_set(one.get<Int>(numbered("anchors", i), {-1}))};
    const Trace steps = trace(rule, ids, singles(ids.size()));
    check_mask(one, numbered("visible", i), steps.seen, report);
    check_rule_mask(rule, ids, steps.seen, report);
    check_lists(numbered("kept_idx", i), steps.kept, read_lists(one, numbered("kept_idx", i)), report);
  }
  if (cases > 0) return;
  const heed::Anchors rule{token_set(one.config.get<std::vector<Int>>("anchor_ids")),
                           one.config.get_or("anchor_sees_anchors", false)};
  if (one.has("o_heads")) return compare(one, setup, rule, report);
  // Where a trained model's attention is not zero.
  const Ids ids = read_ids(one, "ids");
  const Trace steps = trace(rule, ids, singles(ids.size()));
  check_mask(one, "support_any_head", steps.seen, report);
  check_mask(one, "support_per_head", steps.seen, report);
  report.require("the model's rows add up to 1 in bf16", one.get<double>("row_sum_error", {}).at(0) <= 0x1p-8);
}

void run_separators(Case& one, const Setup& setup, Report& report) {
  if (const auto cases = one.config.maybe<nlohmann::json>("cases")) {
    for (std::size_t i = 0; i < cases->size(); ++i) {
      Config config((*cases)[i]);
      const Ids ids = read_ids(one, numbered("ids", i));
      const heed::Separators rule{.initial = config.get<Int>("a"),
                                  .window = config.get<Int>("n"),
                                  .ids = token_set(config.get<std::vector<Int>>("separator_ids"))};
      const Trace steps = trace(rule, ids, singles(ids.size()));
      check_mask(one, numbered("visible", i), steps.seen, report);
      check_rule_mask(rule, ids, steps.seen, report);
      config.finish();
    }
    return;
  }
  const heed::Separators rule{.initial = one.config.get<Int>("initial_tokens"),
                              .window = one.config.get<Int>("neighbours"),
                              .ids = token_set(one.config.get<std::vector<Int>>("separator_ids"))};
  compare(one, setup, rule, report);
}

void run_stream(Case& one, const Setup& setup, Report& report) {
  const heed::SeparatorStream rule{.initial = one.config.get<Int>("initial_tokens"),
                                   .separators = one.config.get<Int>("separator_capacity"),
                                   .local = one.config.get<Int>("local_window"),
                                   .capacity = one.config.get<Int>("cache_capacity"),
                                   .ids = token_set(one.config.get<std::vector<Int>>("separator_ids")),
                                   .accumulate = one.config.get<bool>("SEP_ACCUMULATION"),
                                   .bounded = one.config.get<bool>("USE_MAX_SEP_CACHE")};
  if (one.has("o_heads")) return compare(one, setup, rule, report);
  const Ids ids = read_ids(one, "ids");
  const Trace steps = trace(rule, ids, singles(ids.size()));
  report.require("number of keys kept", lengths(steps.kept) == one.get<Int>("kept_len", {-1}));
  Lists kept = steps.kept;
  if (one.has("sample_steps")) {
    kept.clear();
    for (const Int step : one.get<Int>("sample_steps", {-1})) kept.push_back(steps.kept.at(std::size_t(step)));
  }
  check_lists("kept after each token", kept, read_lists(one, "kept_idx"), report);
  // The last list of every call of a chunked run is that of the token-by-token run.
  const auto calls = std::vector<Int>{Int(ids.size()) / 3, 1, Int(ids.size()) - Int(ids.size()) / 3 - 1};
  const Trace chunked = trace(rule, ids, calls);
  report.require("chunks see and keep the same",
                 chunked.seen == steps.seen && chunked.kept.back() == steps.kept.back());
}

void run_sinks(Case& one, const Setup& setup, Report& report) {
  const auto cases = one.config.maybe<nlohmann::json>("cases");
  if (!cases) {
    const heed::SinkWindow rule{.initial = one.config.get<Int>("start_size"),
                                .window = one.config.get<Int>("recent_size"),
                                .form = heed::SinkForm::evict_after_step};
    return compare(one, setup, rule, report);
  }
  for (std::size_t i = 0; i < cases->size(); ++i) {
    Config config((*cases)[i]);
    const heed::SinkWindow rule{.initial = config.get<Int>("start_size"),
                                .window = config.get<Int>("recent_size"),
                                .form = heed::SinkForm::evict_after_step};
    const Ids ids(std::size_t(config.get<Int>("steps")), 0);
    check_lists(numbered("kept_idx", i), trace(rule, ids, singles(ids.size())).kept,
                read_lists(one, numbered("kept_idx", i)), report);
    const auto space = config.get<std::vector<std::vector<Int>>>("space");
    for (std::size_t s = 0; s < space.size(); ++s) {
      const Int cached = space[s].at(0), coming = space[s].at(1);
      const heed::SinkWindow::Room room = rule.room_for(cached, coming);
      std::vector<Int> kept(std::size_t(room.initial), 0);
      std::iota(kept.begin(), kept.end(), 0);
      for (Int p = cached - room.recent; p < cached; ++p) kept.push_back(p);
      // Through a cache that keeps everything until it is told.
      auto cache = heed::value_or_throw(
          heed::KvCache<heed::Mqa, heed::F32>::create({.num_heads = 1, .head_dim = 1, .scale = 1}, {}));
      auto step = heed::value_or_throw(cache.begin(heed::NumTokens(cached)));
      const std::vector<float> rows(std::size_t(cached), 0.0f);
      heed::check(step.write(0, rows, rows));
      heed::check(step.commit());
      heed::check(cache.compact(kept).status());
      std::vector<Int> held;
      for (Int key = 0; key < cache.size(); ++key) held.push_back(cache.position(key));
      const std::string name = numbered(numbered("evict_for_space", i), s);
      check_lists(name, {held}, {one.get<Int>(name, {-1})}, report);
    }
    config.finish();
  }
}

const Register anchors{{"ansan"}, run_anchors};
const Register separators{{"sepllm_fundamental"}, run_separators};
const Register stream{{"sepllm_streaming"}, run_stream};
const Register sinks{{"streaming_llm"}, run_sinks};

}  // namespace
}  // namespace heed_golden::retention_handler
