// MHA, GQA and MQA, with or without the projections around them; rotated at write, and once more rotated at read.
#include <cmath>
#include <numeric>
#include <optional>

#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>

#include "golden/handlers/cached_run.hpp"
#include "golden/handlers/checks.hpp"
#include "golden/handlers/logit_rules.hpp"
#include "golden/handlers/product.hpp"
#include "golden/handlers/rope_config.hpp"
#include "golden/kernels.hpp"
#include "golden/tolerances.hpp"
#include "oracle/attention.hpp"

namespace heed_golden::grouped_handler {
namespace {

struct Grouped {
  heed::Gqa shape;
  double scale = 0;
  Int tokens = 0, hidden = 0;
  LogitRules rules;
  RotationPair rotation;
  std::vector<heed::Index> positions;
  std::vector<float> q, k, v;  ///< before RoPE
};

// The projection of x, compared with what the case says, or else what the case says.
std::vector<float> projected(Case& one, Grouped& g, Report& report, const std::string& projection,
                             const std::string& name, Int heads, Int width) {
  const auto reference = one.reference(name, {g.tokens, heads, width});
  if (g.hidden == 0 || !one.has("x") || !one.has(projection)) {
    if (!reference) throw Unusable("there is neither x with " + projection + " nor " + name);
    return floats(reference->numbers);
  }
  const auto x = one.get<double>("x", {g.tokens, g.hidden});
  const auto y = product(x, one.get<double>(projection, {heads * width, g.hidden}), g.hidden);
  if (reference) report.near<double>(reference->name, y, reference->numbers, Tolerances::plain(reference->numbers));
  return floats(y);
}

Grouped read(Case& one, Report& report) {
  Config& config = one.config;
  Grouped g;
  g.shape.num_heads = config.get<Int>("num_attention_heads");
  g.shape.num_kv_heads = config.get_or<Int>("num_key_value_heads", g.shape.num_heads);
  g.shape.head_dim = config.get<Int>("head_dim");
  g.shape.v_head_dim = config.get_or<Int>("v_head_dim", g.shape.head_dim);
  g.scale = config.get_or<double>("softmax_scale", 1 / std::sqrt(double(g.shape.head_dim)));
  g.shape.scale = float(g.scale);
  heed::check(g.shape.validate());
  g.hidden = config.get_or<Int>("hidden_size", 0);
  g.rules = read_logit_rules(one, g.shape.num_heads);
  g.rotation = read_rotation(config, g.shape.head_dim);
  if (config.get_or("attention_bias", false)) throw Unusable("attention_bias is not supported by this handler");

  g.tokens = one.shape(one.has("o_heads") ? "o_heads" : "out").at(0);
  g.positions = read_positions(one, g.tokens);
  g.q = projected(one, g, report, "q_proj.weight", "q_pre_rope", g.shape.num_heads, g.shape.head_dim);
  g.k = projected(one, g, report, "k_proj.weight", "k_pre_rope", g.shape.num_kv_heads, g.shape.head_dim);
  g.v = projected(one, g, report, "v_proj.weight", "v", g.shape.num_kv_heads, g.shape.v_head_dim);
  return g;
}

std::vector<float> rotated(const Grouped& g, std::vector<float> rows, const std::vector<heed::Index>& positions) {
  if (g.rotation.rope)
    heed::check(g.rotation.rope->apply_rows(positions, Int(rows.size()) / g.tokens / g.shape.head_dim, rows));
  return rows;
}

// The policy by its own name where there is one.
template <class Backend, class Codec, class Rule>
Run run_named(const Grouped& g, const Rule& rule, const RunInput& in) {
  const heed::Gqa& s = g.shape;
  if (s.num_kv_heads == s.num_heads) {
    const heed::Mha mha{s.num_heads, s.head_dim, s.v_head_dim, s.scale};
    return run_cached<Backend, Codec>(mha, rule, in, g.rules.options());
  }
  if (s.num_kv_heads == 1) {
    const heed::Mqa mqa{s.num_heads, s.head_dim, s.v_head_dim, s.scale};
    return run_cached<Backend, Codec>(mqa, rule, in, g.rules.options());
  }
  return run_cached<Backend, Codec>(s, rule, in, g.rules.options());
}

template <class Backend, class Codec>
Run run(const Grouped& g, const RunInput& in, bool rotate_at_read) {
  return g.rules.with_retention([&](const auto& rule) {
    if (!rotate_at_read) return run_named<Backend, Codec>(g, rule, in);
    const heed::RotatedKeys<heed::Gqa> policy{.policy = g.shape, .rope = &*g.rotation.rope};
    return run_cached<Backend, Codec>(policy, rule, in, g.rules.options());
  });
}

// Attention on exactly the numbers the library had: its float queries, its stored keys and values.
oracle::Answer answer_for(const Grouped& g, const std::vector<float>& q, std::vector<double> keys, const Run& run) {
  oracle::Problem p = g.rules.problem();
  p.heads = g.shape.num_heads, p.kv_heads = g.shape.num_kv_heads;
  p.key_dim = g.shape.head_dim, p.value_dim = g.shape.v_head_dim;
  p.scale = double(g.shape.scale);
  p.q = oracle::doubles(q);
  p.k = std::move(keys);
  p.v = oracle::doubles(run.values);
  return oracle::attention(p);
}

// The results of the case itself.
void check_reference(Case& one, const Grouped& g, const Run& run, const Tolerances& tolerance, Report& report) {
  const Int heads = g.shape.num_heads, dv = g.shape.v_head_dim;
  if (const auto r = one.reference("o_heads", {g.tokens, heads, dv})) {
    report.near<float>(r->name, run.o, r->numbers, tolerance.output(r->numbers));
  }
  if (const auto r = one.reference("lse", {g.tokens, heads})) {
    report.near<float>(r->name, run.lse, r->numbers, tolerance.output(r->numbers));
  }
  if (const auto r = one.reference("lse_with_sink", {g.tokens, heads})) {
    if (g.rules.sinks.empty()) throw Unusable("there is lse_with_sink, but attention_sink_logits is off");
    std::vector<double> with_sink;
    for (std::size_t i = 0; i < run.lse.size(); ++i) {
      const double lse = run.lse[i], sink = g.rules.sinks[i % std::size_t(heads)], max = std::max(lse, sink);
      with_sink.push_back(max + std::log(std::exp(lse - max) + std::exp(sink - max)));
    }
    report.near<double>(r->name, with_sink, r->numbers, tolerance.output(r->numbers));
  }
  if (const auto r = one.reference("out", {g.tokens, -1})) {
    const Int width = one.shape(r->name).at(1);
    const auto out = product(oracle::doubles(run.o), one.get<double>("o_proj.weight", {width, heads * dv}), heads * dv);
    report.near<double>(r->name, out, r->numbers, tolerance.output(r->numbers));
  }
}

template <class Backend, class Codec>
void compare(Case& one, const Grouped& g, const Setup& setup, Report& report) {
  const std::vector<float> q = rotated(g, g.q, g.positions), k = rotated(g, g.k, g.positions);
  const RunInput input{q, k, g.v, g.tokens, call_sizes(one, g.tokens)};
  const Run main = run<Backend, Codec>(g, input, false);
  check_rows("keys", setup.codec, k, main.keys, report);
  check_rows("values", setup.codec, g.v, main.values, report);
  const oracle::Answer answer = answer_for(g, q, oracle::doubles(main.keys), main);
  check_against(answer, main, "", report);

  Tolerances tolerance;
  tolerance.logit_size = largest(answer.logit_size);
  if (g.rotation.rope) tolerance.farthest = farthest(g.positions);
  if (setup.codec == "f32") {
    const Int dk = g.shape.head_dim;
    if (const auto r = one.reference("q_rot", {g.tokens, g.shape.num_heads, dk})) {
      report.near<float>(r->name, q, r->numbers, tolerance.rotated(r->numbers));
    }
    if (const auto r = one.reference("k_rot", {g.tokens, g.shape.num_kv_heads, dk})) {
      report.near<float>(r->name + " from the cache", main.keys, r->numbers, tolerance.rotated(r->numbers));
    }
    if (const auto r = one.reference("v", {g.tokens, g.shape.num_kv_heads, g.shape.v_head_dim})) {
      report.near<float>(r->name + " from the cache", main.values, r->numbers, Tolerances::plain(r->numbers));
    }
    check_reference(one, g, main, tolerance, report);
  } else {
    skip_references(one, {"o_heads", "lse", "lse_with_sink", "out", "q_rot", "k_rot"});
    if (one.has("o_proj.weight")) std::ignore = one.get<double>("o_proj.weight", {-1, -1});
  }

  // The same tokens in other calls: the same bits.
  for (const auto& [name, calls] : other_call_sizes(g.tokens)) {
    check_same(name, run<Backend, Codec>(g, {q, k, g.v, g.tokens, calls}, false), main, report);
  }

  // Rotated at read. The cache counts positions from 0, which is a shift of all of them unless there are gaps.
  if (!g.rotation.rope) return;
  std::vector<heed::Index> cached(std::size_t(g.tokens));
  std::iota(cached.begin(), cached.end(), 0);
  for (std::size_t i = 0; i < cached.size(); ++i) {
    if (g.positions[i] - cached[i] != g.positions[0]) {
      report.note("positions have gaps: not run with keys rotated at read");
      return;
    }
  }
  const std::vector<float> q_read = rotated(g, g.q, cached);
  const Run read = run<Backend, Codec>(g, {q_read, g.k, g.v, g.tokens, input.calls}, true);
  check_rows("keys before RoPE", setup.codec, g.k, read.keys, report);
  auto keys = g.rotation.exact.rotated(oracle::doubles(read.keys), g.shape.head_dim, cached);
  check_against(answer_for(g, q_read, std::move(keys), read), read, " (rotated at read)", report);
}

void run_grouped(Case& one, const Setup& setup, Report& report) {
  const Grouped g = read(one, report);
  with_kernel(setup, [&]<class Backend, class Codec>() { compare<Backend, Codec>(one, g, setup, report); });
}

const Register grouped{{"mha", "gqa", "mqa"}, run_grouped};

}  // namespace
}  // namespace heed_golden::grouped_handler
