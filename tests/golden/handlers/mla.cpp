// MLA from the checkpoint's tensors to the layer's output, in absorbed and in expanded form.
#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "golden/handlers/logit_rules.hpp"
#include "golden/handlers/mla_layer.hpp"
#include "golden/kernels.hpp"
#include "golden/tolerances.hpp"

namespace heed_golden::mla_handler {
namespace {

struct MlaCase : MlaParts {
  LogitRules rules;
  Int tokens = 0;
  std::vector<double> x;
  std::vector<heed::Index> positions;
};

MlaCase read(Case& one) {
  MlaCase c{read_mla(one), {}, 0, {}, {}};
  c.rules = read_logit_rules(one, c.layer.num_heads);
  c.tokens = one.shape("x").at(0);
  c.x = one.get<double>("x", {c.tokens, c.hidden});
  c.positions = read_positions(one, c.tokens);
  return c;
}

/// The layer at work on one backend and codec.
template <class Backend, class Codec>
struct Working {
  const MlaCase& c;
  heed::MlaLayer layer = make_mla(c);
  std::vector<float> x = floats(c.x);

  [[nodiscard]] TokenRows project(Int first, Int count) const {
    const heed::Mla& mla = layer.policy();
    TokenRows rows;
    rows.q.resize(std::size_t(count * mla.num_heads * mla.qk_head_dim()));
    rows.keys.resize(std::size_t(count * mla.row_width()));
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    heed::check(layer.project<Backend>(slice(x, first, count, c.hidden), slice(c.positions, first, count, 1), rows.q,
                                       rows.keys, workspace, executor));
    return rows;
  }

  [[nodiscard]] Run run(heed::MlaForm form, const std::vector<Int>& calls) const {
    return run(layer.policy(), form, calls, [this](Int first, Int count) { return project(first, count); });
  }
  [[nodiscard]] Run run(const heed::Mla& mla, heed::MlaForm form, const std::vector<Int>& calls,
                        const Project& tokens) const {
    const heed::AttendOptions options = c.rules.options();
    return c.rules.with_retention([&](const auto& rule) {
      return run_cached<Codec>(
          mla, rule, calls, tokens, [&](auto q, const auto& keys, auto out, auto lse, auto& workspace, auto& executor) {
            return heed::attend_mla<Backend>(mla, form, q, keys, keys.mask(), out, workspace, executor, options, lse);
          });
    });
  }
};

void check_frequencies(Case& one, const MlaCase& c, Report& report) {
  const auto r = one.reference("inv_freq", {c.layer.qk_rope_head_dim / 2});
  if (!r) return;
  const auto got = c.rotation.rope ? c.rotation.rope->frequencies() : std::span<const double>();
  report.near<double>(r->name, {got.begin(), got.end()}, r->numbers, 1e-12);
}

/// The automatic choice is, call by call, what the form it takes gave.
Run chosen(const heed::Mla& mla, const std::vector<Int>& calls, Run absorbed, const Run& expanded) {
  Int keys = 0;
  for (const Int count : calls) {
    const auto take = [&](std::vector<float>& to, const std::vector<float>& from, Int width) {
      std::copy_n(from.begin() + keys * width, count * width, to.begin() + keys * width);
    };
    if (heed::mla_expands(mla, count, keys + count)) {
      take(absorbed.o, expanded.o, mla.num_heads * mla.v_head_dim);
      take(absorbed.lse, expanded.lse, mla.num_heads);
    }
    keys += count;
  }
  return absorbed;
}

template <class Backend, class Codec>
void compare(Case& one, const MlaCase& c, const Setup& setup, Report& report) {
  const Working<Backend, Codec> working{c};
  const heed::Mla& mla = working.layer.policy();
  const std::vector<Int> calls = call_sizes(one, c.tokens);
  const TokenRows all = working.project(0, c.tokens);
  const std::vector<float>&q = all.q, &rows = all.keys;
  const auto rules = c.rules.problem();

  const oracle::Mla exact = as_floats(c.layer, mla);
  References want{one, {}, report};
  if (c.rotation.rope) want.tolerance.farthest = farthest(c.positions);
  want.tolerance.logit_size = largest(exact.naive(oracle::doubles(q), oracle::doubles(rows), rules).logit_size);
  check_scale(exact.scale, c.layer.scale, report);
  check_frequencies(one, c, report);
  const auto q_part = [&](Int first, Int count) {
    return oracle::columns(oracle::doubles(q), mla.qk_head_dim(), first, count);
  };
  want.plain("q_nope", {c.tokens, mla.num_heads, mla.qk_nope_head_dim}, q_part(0, mla.qk_nope_head_dim));
  want.rotated("q_pe", {c.tokens, mla.num_heads, mla.qk_rope_head_dim},
               q_part(mla.qk_nope_head_dim, mla.qk_rope_head_dim));

  const auto row_part = [&](Int first, Int count) {
    return oracle::columns(oracle::doubles(rows), mla.row_width(), first, count);
  };
  want.plain("cache_latent", {c.tokens, mla.kv_lora_rank}, row_part(0, mla.kv_lora_rank));
  want.rotated_by_float_angles("cache_k_pe", {c.tokens, mla.qk_rope_head_dim},
                               row_part(mla.kv_lora_rank, mla.qk_rope_head_dim));

  const auto check_form = [&](heed::MlaForm form, const std::string& name) {
    auto [main, out] = run_all_calls<Backend>(
        one, c.tokens, working.layer, [&](const auto& sizes) { return working.run(form, sizes); }, name, report);
    check_rows("rows" + name, setup.codec, rows, main.keys, report);
    const oracle::Answer answer = exact.bounded(oracle::doubles(q), oracle::doubles(main.keys), rules);
    check_against(answer, main, name, report);
    report.near<float>("o against the oracle" + name, main.o, answer.o, want.tolerance.output(answer.o));
    want.computed("the output of the heads" + name, exact.output(oracle::doubles(main.o)), out);
    if (setup.codec == "f32") {
      want.output("o_heads", {c.tokens, mla.num_heads, mla.v_head_dim}, main.o, name);
      want.output("lse", {c.tokens, mla.num_heads}, main.lse, name);
      want.output("out", {c.tokens, c.hidden}, out, name);
    }
    return main;
  };
  const Run absorbed = check_form(heed::MlaForm::absorbed, ", absorbed");
  const Run expanded = check_form(heed::MlaForm::expanded, ", expanded");
  check_same("the cheaper form", working.run(heed::MlaForm::automatic, calls), chosen(mla, calls, absorbed, expanded),
             report);

  // Without its maps the policy takes and gives what lies in latent space.
  heed::Mla latent = mla;
  latent.weights = {};
  const std::vector<float> q_latent = floats(exact.absorbed_queries(oracle::doubles(q)));
  const RunInput input{q_latent, rows, {}, c.tokens, calls};
  const Run z = working.run(latent, heed::MlaForm::automatic, calls, input.project());
  check_against(exact.latent(oracle::doubles(q_latent), oracle::doubles(z.keys), rules), z, ", latent", report);

  if (setup.codec != "f32") {
    return skip_references(one, {"o_latent", "o_heads", "lse", "out"});
  }
  want.output("o_latent", {c.tokens, mla.num_heads, mla.kv_lora_rank}, z.o);
}

void run_mla(Case& one, const Setup& setup, Report& report) {
  const MlaCase c = read(one);
  with_kernel(setup, [&]<class Backend, class Codec>() { compare<Backend, Codec>(one, c, setup, report); });
}

const Register mla{{"mla"}, run_mla};

}  // namespace
}  // namespace heed_golden::mla_handler
