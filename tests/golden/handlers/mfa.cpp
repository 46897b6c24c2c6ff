// MFA and MFA-KR from the checkpoint's tensors to the layer's output.
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/layer/mfa.hpp>

#include "golden/handlers/cached_run.hpp"
#include "golden/handlers/checks.hpp"
#include "golden/handlers/layer_run.hpp"
#include "golden/handlers/logit_rules.hpp"
#include "golden/handlers/rope_config.hpp"
#include "golden/kernels.hpp"
#include "golden/tolerances.hpp"
#include "oracle/mfa.hpp"

namespace heed_golden::mfa_handler {
namespace {

struct MfaCase {
  oracle::Mfa layer;  ///< the checkpoint's tensors
  std::optional<oracle::KeyReuse> reuse;
  RotationPair rotation;
  LogitRules rules;
  Int tokens = 0, hidden = 0;
  std::vector<double> x;
  std::vector<heed::Index> positions;

  [[nodiscard]] TensorShape row() const { return {tokens, layer.head_dim}; }
  [[nodiscard]] TensorShape heads() const { return {tokens, layer.num_heads, layer.head_dim}; }
};

MfaCase read(Case& one, bool reuses_keys) {
  Config& config = one.config;
  MfaCase c;
  c.hidden = config.get<Int>("hidden_size");
  oracle::Mfa& m = c.layer;
  m.num_heads = config.get<Int>("num_attention_heads");
  m.head_dim = config.get<Int>("head_dim");
  if (config.get_or<Int>("num_key_value_heads", 1) != 1) throw Unusable("MFA has one KV head");
  if (config.get_or("attention_bias", false)) throw Unusable("attention_bias is not supported by this handler");
  m.eps = config.get_or("rms_norm_eps", 1e-5);
  c.rotation = read_rotation(config, m.head_dim);
  m.rotation = c.rotation.exact;
  m.scale = config.get_or("softmax_scale", c.rotation.softmax_factor / std::sqrt(double(m.head_dim)));
  c.rules = read_logit_rules(one, m.num_heads);

  const Int r = config.get<Int>("share_q_dim"), q_rows = m.num_heads * m.head_dim;
  m.q_proj = one.get<double>("q_proj.weight", {r, c.hidden});
  m.inter_norm = one.get<double>("inter_norm.weight", {r});
  m.wq = one.get<double>("wq.weight", {q_rows, r});
  m.k_proj = one.get<double>("k_proj.weight", {m.head_dim, c.hidden});
  m.o_proj = one.get<double>("o_proj.weight", {c.hidden, q_rows});
  if (reuses_keys) {
    c.reuse = {one.get<double>("kr_N", {m.head_dim, m.head_dim}), one.get<double>("kr_alpha", {m.head_dim})};
    config.expect("value_rule", "v = (I + diag(alpha) N) k with k UN-rotated");
    config.skip("alpha");  // says how kr_alpha was chosen
  } else {
    m.v_proj = one.get<double>("v_proj.weight", {m.head_dim, c.hidden});
  }

  c.tokens = one.shape("x").at(0);
  c.x = one.get<double>("x", {c.tokens, c.hidden});
  c.positions = read_positions(one, c.tokens);
  return c;
}

/// A view of a cache whose keys are at other positions.
template <class View>
class Placed : public View {
 public:
  Placed(const View& view, std::span<const heed::Index> positions) : View(view), positions_(positions) {}
  [[nodiscard]] heed::Index position(heed::Index key) const { return positions_[std::size_t(View::position(key))]; }

 private:
  std::span<const heed::Index> positions_;
};

heed::MfaLayerOptions layer_options(const MfaCase& c) {
  heed::MfaLayerOptions options{.hidden_size = c.hidden,
                                .num_attention_heads = c.layer.num_heads,
                                .head_dim = c.layer.head_dim,
                                .share_q_dim = c.layer.share_q_dim(),
                                .inter_norm_eps = c.layer.eps};
  if (c.rotation.rope) options.rope = c.rotation.rope->options();
  return options;
}

heed::MfaTensors layer_tensors(const MfaCase& c, FloatTensors& tensor) {
  const oracle::Mfa& m = c.layer;
  const oracle::KeyReuse reuse = c.reuse.value_or(oracle::KeyReuse{});
  return {.q_proj = tensor(m.q_proj, c.hidden),
          .inter_norm = tensor(m.inter_norm),
          .wq = tensor(m.wq, m.share_q_dim()),
          .k_proj = tensor(m.k_proj, c.hidden),
          .v_proj = tensor(m.v_proj, c.hidden),
          .o_proj = tensor(m.o_proj, m.num_heads * m.head_dim),
          .kr_n = tensor(reuse.n, m.head_dim),
          .kr_alpha = tensor(reuse.alpha)};
}

/// A layer at work on one backend and codec.
template <class Backend, class Codec, class Layer>
struct Working {
  const MfaCase& c;
  Layer layer;
  std::vector<float> x = floats(c.x);

  [[nodiscard]] TokenRows project(Int first, Int count) const {
    const Int width = c.layer.head_dim;
    TokenRows rows;
    rows.q.resize(std::size_t(count * c.layer.num_heads * width));
    rows.keys.resize(std::size_t(count * width));
    const auto part = slice(x, first, count, c.hidden);
    const auto positions = slice(c.positions, first, count, 1);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    if constexpr (std::is_same_v<Layer, heed::MfaLayer>) {
      rows.values.resize(rows.keys.size());
      heed::check(
          layer.template project<Backend>(part, positions, rows.q, rows.keys, rows.values, workspace, executor));
    } else {
      heed::check(layer.template project<Backend>(part, positions, rows.q, rows.keys, workspace, executor));
    }
    return rows;
  }

  /// Keys and queries have the case's positions, or else those that the cache counts from 0.
  [[nodiscard]] Run run(const std::vector<Int>& calls, bool counted = false) const {
    const heed::AttendOptions options = c.rules.options();
    return c.rules.with_retention([&](const auto& rule) {
      return run_cached<Codec>(
          layer.policy(), rule, calls, [this](Int first, Int count) { return project(first, count); },
          [&](auto q, const auto& keys, auto out, auto lse, auto& workspace, auto& executor) {
            if (counted) return heed::attend<Backend>(layer.policy(), q, keys, out, workspace, executor, options, lse);
            const auto queries = lse.size() / std::size_t(c.layer.num_heads);
            const auto positions = std::span(c.positions).subspan(std::size_t(keys.size()) - queries, queries);
            const Placed<std::remove_cvref_t<decltype(keys)>> placed(keys, c.positions);
            return heed::attend<Backend>(layer.policy(), q, placed, keys.mask(), out, workspace, executor, options, lse,
                                         positions);
          });
    });
  }
};

References references(Case& one, const MfaCase& c, const oracle::Answer& answer, Report& report) {
  References all{one, {}, report};
  all.tolerance.logit_size = largest(answer.logit_size);
  if (c.rotation.rope) all.tolerance.farthest = farthest(c.positions);
  return all;
}

/// The layer's value map, transposed.
std::vector<float> value_map(const MfaCase& c) {
  FloatTensors tensor;
  const heed::MfaTensors tensors = layer_tensors(c, tensor);
  std::vector<float> map(c.reuse->n.size());
  heed::check(heed::make_value_map(tensors.kr_n, tensors.kr_alpha, c.layer.head_dim, map));
  return map;
}

/// The output weight with the value map in it.
std::vector<double> folded_output(const MfaCase& c) {
  std::vector<float> folded(c.layer.o_proj.size());
  heed::check(heed::fold_value_map(value_map(c), c.layer.head_dim, floats(c.layer.o_proj), folded));
  return oracle::doubles(folded);
}

/// The explicit values of keys.
std::vector<float> mapped_values(const MfaCase& c, const std::vector<float>& keys) {
  const Int width = c.layer.head_dim;
  const std::vector<float> map = value_map(c);
  std::vector<float> values(keys.size());
  heed::Scalar::linear({map.data(), width, width, width}, c.tokens, keys.data(), width, values.data(), width);
  return values;
}

template <class Backend, class Codec>
void compare_mfa(Case& one, const MfaCase& c, const Setup& setup, Report& report) {
  FloatTensors tensor;
  const Working<Backend, Codec, heed::MfaLayer> working{
      c, heed::value_or_throw(heed::MfaLayer::create(layer_options(c), layer_tensors(c, tensor)))};
  const auto [main, out] = run_all_calls<Backend>(
      one, c.tokens, working.layer, [&](const auto& calls) { return working.run(calls); }, "", report);
  const auto [q, k, v] = working.project(0, c.tokens);
  check_rows("keys", setup.codec, k, main.keys, report);
  check_rows("values", setup.codec, v, main.values, report);
  oracle::Mfa exact = c.layer;
  exact.scale = double(working.layer.policy().scale);
  const oracle::Answer answer =
      exact.attend(oracle::doubles(q), oracle::doubles(main.keys), oracle::doubles(main.values), c.rules.problem());
  check_against(answer, main, "", report);

  const References want = references(one, c, answer, report);
  check_scale(exact.scale, c.layer.scale, report);
  want.rotated("q", c.heads(), oracle::doubles(q));
  want.rotated("k", c.row(), oracle::doubles(k));
  want.rotated_by_float_angles("cache_k", c.row(), oracle::doubles(k));
  for (const char* name : {"v", "cache_v"}) want.plain(name, c.row(), oracle::doubles(v));
  want.computed("the output of the heads", exact.output(oracle::doubles(main.o)), out);
  if (setup.codec != "f32") return skip_references(one, {"o_heads", "lse", "out"});
  want.output("o_heads", c.heads(), main.o);
  want.output("lse", {c.tokens, c.layer.num_heads}, main.lse);
  want.output("out", {c.tokens, c.hidden}, out);
}

// Keys are cached un-rotated and turn when they are read. The value map is part of the output projection, or the
// policy applies it, and then gives what explicit values would.
template <class Backend, class Codec>
void compare_kr(Case& one, const MfaCase& c, const Setup& setup, Report& report) {
  const auto working = [&](heed::ValueMap where) {
    FloatTensors tensor;
    return Working<Backend, Codec, heed::MfaKrLayer>{
        c, heed::value_or_throw(heed::MfaKrLayer::create(layer_options(c), layer_tensors(c, tensor), where))};
  };
  const auto folded = working(heed::ValueMap::folded), mapped = working(heed::ValueMap::per_query);
  const std::string in_output = ", value map folded", in_policy = ", value map per query";
  const auto run_form = [&](const auto& form, const std::string& name) {
    return run_all_calls<Backend>(
        one, c.tokens, form.layer, [&](const auto& calls) { return form.run(calls); }, name, report);
  };
  const auto [z, z_out] = run_form(folded, in_output);
  const auto [o, o_out] = run_form(mapped, in_policy);
  const TokenRows all = folded.project(0, c.tokens);
  const std::vector<float>&q = all.q, &k = all.keys;
  check_rows("keys" + in_output, setup.codec, k, z.keys, report);
  check_rows("keys" + in_policy, setup.codec, k, o.keys, report);

  oracle::Mfa exact = c.layer;
  exact.scale = double(folded.layer.policy().scale);
  const auto keys = oracle::doubles(z.keys);
  oracle::Answer answer = exact.attend(oracle::doubles(q), exact.rotation.rotated(keys, exact.head_dim, c.positions),
                                       keys, c.rules.problem());
  check_against(answer, z, in_output, report);
  const oracle::KeyReuse size{oracle::absolute(c.reuse->n), oracle::absolute(c.reuse->alpha)};
  answer.o = c.reuse->values(answer.o);
  answer.abs_values = size.values(answer.abs_values);
  check_against(answer, o, in_policy, report);

  std::vector<heed::Index> counted(std::size_t(c.tokens), 0);
  std::iota(counted.begin(), counted.end(), 0);
  if (c.positions == counted) {
    check_same("reading the cache's own positions", folded.run(call_sizes(one, c.tokens), true), z, report);
  }

  const References want = references(one, c, answer, report);
  check_scale(exact.scale, c.layer.scale, report);
  want.rotated("q", c.heads(), oracle::doubles(q));
  want.plain("o_proj_folded.weight", {c.hidden, c.layer.num_heads * c.layer.head_dim}, folded_output(c));
  want.plain("cache_k_unrotated", c.row(), oracle::doubles(k));
  std::vector<float> rotated = k;
  if (c.rotation.rope) heed::check(c.rotation.rope->apply_rows(c.positions, 1, rotated));
  want.rotated("k_rotated", c.row(), oracle::doubles(rotated));
  want.plain("v_explicit", c.row(), oracle::doubles(mapped_values(c, k)));
  want.computed("the output of the heads" + in_output, exact.output(c.reuse->values(oracle::doubles(z.o))), z_out);
  want.computed("the output of the heads" + in_policy, exact.output(oracle::doubles(o.o)), o_out);
  if (setup.codec != "f32") return skip_references(one, {"z_heads", "o_heads", "lse", "out"});
  want.output("z_heads", c.heads(), z.o);
  want.output("o_heads", c.heads(), o.o);
  want.output("lse", {c.tokens, c.layer.num_heads}, z.lse);
  want.output("out", {c.tokens, c.hidden}, z_out, in_output);
  want.output("out", {c.tokens, c.hidden}, o_out, in_policy);
}

void run_mfa(Case& one, const Setup& setup, Report& report) {
  const MfaCase c = read(one, false);
  with_kernel(setup, [&]<class Backend, class Codec>() { compare_mfa<Backend, Codec>(one, c, setup, report); });
}

void run_mfa_kr(Case& one, const Setup& setup, Report& report) {
  const MfaCase c = read(one, true);
  with_kernel(setup, [&]<class Backend, class Codec>() { compare_kr<Backend, Codec>(one, c, setup, report); });
}

const Register mfa{{"mfa"}, run_mfa};
const Register mfa_kr{{"mfa_kr"}, run_mfa_kr};

}  // namespace
}  // namespace heed_golden::mfa_handler
