// DeepSeek-V3's MTP module from the checkpoint's tensors to logits, and drafts from its own hiddens.
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <heed/layer/mtp.hpp>
#include <heed/speculative/accept.hpp>

#include "golden/handlers/mla_layer.hpp"
#include "golden/kernels.hpp"
#include "golden/tolerances.hpp"
#include "oracle/mtp.hpp"

namespace heed_golden::mtp_handler {
namespace {

struct MtpCase {
  MlaParts attention;
  oracle::Mtp exact;  ///< with position 0 zeroed
  Int inner = 0, vocabulary = 0, slots = 0;
  std::vector<Int> tokens;
  std::vector<double> hiddens;
  std::vector<heed::Index> positions;
};

MtpCase read(Case& one) {
  Config& config = one.config;
  MtpCase c{.attention = read_mla(one, "self_attn."), .exact = {}, .tokens = {}, .hiddens = {}, .positions = {}};
  const Int width = c.attention.hidden;
  c.inner = config.get<Int>("intermediate_size");
  c.vocabulary = config.get<Int>("vocab_size");
  config.expect("eh_proj_order", "[enorm(embedding) ; hnorm(hidden)]");
  if (!config.get<bool>("dense_mlp_instead_of_moe")) throw Unusable("dense_mlp_instead_of_moe is false");
  if (config.get<Int>("num_nextn_predict_layers") != 1) throw Unusable("num_nextn_predict_layers is not 1");
  config.skip("seed");

  const auto vector = [&](const std::string& name) { return one.get<double>(name + ".weight", {width}); };
  const auto matrix = [&](const std::string& name, Int out, Int in) {
    return one.get<double>(name + ".weight", {out, in});
  };
  c.exact = {.attention = c.attention.layer,
             .eps = config.get<double>("rms_norm_eps"),
             .zero_first_embedding = true,
             .embed_tokens = matrix("embed_tokens", c.vocabulary, width),
             .enorm = vector("enorm"),
             .hnorm = vector("hnorm"),
             .eh_proj = matrix("eh_proj", width, 2 * width),
             .input_layernorm = vector("input_layernorm"),
             .post_attention_layernorm = vector("post_attention_layernorm"),
             .gate_proj = matrix("mlp.gate_proj", c.inner, width),
             .up_proj = matrix("mlp.up_proj", c.inner, width),
             .down_proj = matrix("mlp.down_proj", width, c.inner),
             .shared_head_norm = vector("shared_head.norm"),
             .shared_head = matrix("shared_head.head", c.vocabulary, width)};

  c.slots = one.shape("input_ids").at(0);
  c.tokens = one.get<Int>("input_ids", {c.slots});
  c.hiddens = one.get<double>("previous_hidden_states", {c.slots, width});
  c.positions = read_positions(one, c.slots);
  return c;
}

/// Hidden h_i with token t_(i+1), from the first slot on.
struct Slots {
  std::vector<Int> tokens;
  std::vector<float> hiddens;
  std::vector<heed::Index> positions;
};

/// What slots come to, a row each.
struct Pass {
  std::vector<float> combined, q, rows, attention, after_attention, feed_forward, hidden, normed, logits;
  Run run;
};

struct Drafts {
  std::vector<Int> tokens;
  std::vector<float> logits;
};

/// The module and its decoder layer on one backend and codec.
template <class Backend, class Codec>
class Working {
 public:
  Working(const MtpCase& c, bool zero_first) : c_(c), layer_(make_mla(c.attention)), module_(module_of(c, zero_first)) {
    FloatTensors tensor;
    const oracle::Mtp& m = c.exact;
    const Int width = c.attention.hidden;
    using heed::Projection;
    using heed::value_or_throw;
    input_norm_ = value_or_throw(heed::RmsNorm::create("input_layernorm", tensor(m.input_layernorm), width, m.eps));
    mlp_norm_ = value_or_throw(
        heed::RmsNorm::create("post_attention_layernorm", tensor(m.post_attention_layernorm), width, m.eps));
    gate_ = value_or_throw(Projection::create("gate_proj", tensor(m.gate_proj, width), c.inner, width));
    up_ = value_or_throw(Projection::create("up_proj", tensor(m.up_proj, width), c.inner, width));
    down_ = value_or_throw(Projection::create("down_proj", tensor(m.down_proj, c.inner), width, c.inner));
    head_ = value_or_throw(Projection::create("shared_head.head", tensor(m.shared_head, width), c.vocabulary, width));
    embedding_ = floats(m.embed_tokens);
  }

  [[nodiscard]] const heed::Mla& policy() const { return layer_.policy(); }

  /// All slots, in calls of these sizes.
  [[nodiscard]] Pass run(const Slots& slots, const std::vector<Int>& calls) const {
    Pass pass;
    const Int width = c_.attention.hidden;
    const Project project = [&](Int first, Int count) {
      const std::vector<float> combined = combine(slots, first, count);
      append(pass.combined, combined);
      const TokenRows rows = project_rows(combined, slice(slots.positions, first, count, 1));
      append(pass.q, rows.q);
      append(pass.rows, rows.keys);
      return rows;
    };
    pass.run = run_cached<Codec>(policy(), heed::Causal{}, calls, project,
                                 [&](auto q, const auto& keys, auto out, auto lse, auto& workspace, auto& executor) {
                                   return heed::attend_mla<Backend>(policy(), heed::MlaForm::absorbed, q, keys,
                                                                    keys.mask(), out, workspace, executor, {}, lse);
                                 });
    pass.attention = output_in_calls<Backend>(layer_, pass.run.o, calls);
    Int at = 0;
    for (const Int count : calls) {
      finish(pass, slice(pass.combined, at, count, width), slice(pass.attention, at, count, width));
      at += count;
    }
    return pass;
  }

  /// Logits of hiddens that left the layer, and those after shared_head.norm.
  [[nodiscard]] std::pair<std::vector<float>, std::vector<float>> logits(const std::vector<float>& hidden) const {
    std::vector<float> normed(hidden.size());
    heed::check(module_.finish(hidden, normed));
    return {apply(head_, normed), normed};
  }

  [[nodiscard]] Drafts drafts(Slots slots, std::vector<Int> calls, Int count, oracle::Recycling recycling) const {
    Drafts made;
    Pass pass = run(slots, calls);
    const Int width = c_.attention.hidden;
    for (Int i = 0; i < count; ++i) {
      made.tokens.push_back(
          heed::value_or_throw(heed::greedy_token(std::span(pass.logits).last(std::size_t(c_.vocabulary)))));
      const std::vector<float>& own = recycling == oracle::Recycling::post ? pass.normed : pass.hidden;
      append(slots.hiddens, {own.end() - width, own.end()});
      slots.tokens.push_back(made.tokens.back());
      slots.positions.push_back(slots.positions.back() + 1);
      calls.push_back(1);
      pass = run(slots, calls);
      append(made.logits, {pass.logits.end() - c_.vocabulary, pass.logits.end()});
    }
    return made;
  }

 private:
  [[nodiscard]] static heed::MtpModule module_of(const MtpCase& c, bool zero_first) {
    FloatTensors tensor;
    const oracle::Mtp& m = c.exact;
    return heed::value_or_throw(heed::MtpModule::create(
        {.hidden_size = c.attention.hidden, .rms_norm_eps = m.eps, .zero_first_embedding = zero_first},
        {tensor(m.enorm), tensor(m.hnorm), tensor(m.eh_proj, 2 * c.attention.hidden), tensor(m.shared_head_norm)}));
  }

  [[nodiscard]] std::vector<float> combine(const Slots& slots, Int first, Int count) const {
    const Int width = c_.attention.hidden;
    std::vector<float> embeddings, combined(std::size_t(count * width));
    for (const Int token : slice(slots.tokens, first, count, 1)) append(embeddings, slice(embedding_, token, 1, width));
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    heed::check(module_.combine<Backend>(embeddings, slice(slots.hiddens, first, count, width),
                                         slice(slots.positions, first, count, 1), combined, workspace, executor));
    return combined;
  }

  [[nodiscard]] TokenRows project_rows(const std::vector<float>& combined,
                                       const std::vector<heed::Index>& positions) const {
    const Int count = Int(positions.size());
    std::vector<float> x = combined;
    input_norm_.apply(count, x.data(), c_.attention.hidden);
    TokenRows rows;
    rows.q.resize(std::size_t(count * policy().num_heads * policy().qk_head_dim()));
    rows.keys.resize(std::size_t(count * policy().row_width()));
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    heed::check(layer_.project<Backend>(x, positions, rows.q, rows.keys, workspace, executor));
    return rows;
  }

  /// What comes after attention.
  void finish(Pass& pass, const std::vector<float>& combined, const std::vector<float>& attention) const {
    const Int width = c_.attention.hidden;
    std::vector<float> x = combined;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += attention[i];
    append(pass.after_attention, x);
    std::vector<float> n = x;
    mlp_norm_.apply(Int(n.size()) / width, n.data(), width);
    std::vector<float> gates = apply(gate_, n);
    const std::vector<float> ups = apply(up_, n);
    for (std::size_t i = 0; i < gates.size(); ++i) gates[i] *= ups[i] / (1 + std::exp(-gates[i]));
    const std::vector<float> down = apply(down_, gates);
    append(pass.feed_forward, down);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += down[i];
    append(pass.hidden, x);
    const auto [logits, normed] = this->logits(x);
    append(pass.normed, normed);
    append(pass.logits, logits);
  }

  [[nodiscard]] static std::vector<float> apply(const heed::Projection& projection, const std::vector<float>& x) {
    heed::SerialExecutor executor;
    const Int rows = Int(x.size()) / projection.in();
    std::vector<float> y(std::size_t(rows * projection.out()));
    projection.apply<Backend>(rows, x.data(), y.data(), executor);
    return y;
  }
  static void append(std::vector<float>& to, const std::vector<float>& from) {
    to.insert(to.end(), from.begin(), from.end());
  }

  const MtpCase& c_;
  heed::MlaLayer layer_;
  heed::MtpModule module_;
  heed::RmsNorm input_norm_, mlp_norm_;
  heed::Projection gate_, up_, down_, head_;
  std::vector<float> embedding_;
};

void check_same(const std::string& what, const Pass& a, const Pass& b, Report& report) {
  check_same(what, a.run, b.run, report);
  report.require(what + " gives the same hiddens and logits",
                 same_bits(a.combined, b.combined) && same_bits(a.hidden, b.hidden) && same_bits(a.normed, b.normed) &&
                     same_bits(a.logits, b.logits));
}

/// Every part of a pass against float64 on what went into it.
void check_parts(const MtpCase& c, const Pass& pass, const heed::Mla& mla, const Setup& setup, References& want) {
  using oracle::doubles;
  const oracle::Mla exact = as_floats(c.attention.layer, mla);
  check_rows("rows", setup.codec, pass.rows, pass.run.keys, want.report);
  check_against(exact.bounded(doubles(pass.q), doubles(pass.run.keys)), pass.run, "", want.report);
  want.computed("the output of the heads", exact.output(doubles(pass.run.o)), pass.attention);
  const auto normed = [&](const std::vector<float>& x, const oracle::Numbers& gain) {
    return oracle::rms_norm(doubles(x), gain, c.exact.eps);
  };
  want.computed("SwiGLU", c.exact.feed_forward(normed(pass.after_attention, c.exact.post_attention_layernorm)),
                pass.feed_forward);
  want.computed("the last norm", normed(pass.hidden, c.exact.shared_head_norm), pass.normed);
  want.computed("the head", c.exact.logits(doubles(pass.hidden)), pass.logits);
}

template <class Backend, class Codec>
void compare(Case& one, const MtpCase& c, const Setup& setup, Report& report) {
  using Module = Working<Backend, Codec>;
  const Module working(c, true), unzeroed(c, false);
  const heed::Mla& mla = working.policy();
  const Slots slots{c.tokens, floats(c.hiddens), c.positions};
  const std::vector<Int> calls = call_sizes(one, c.slots);
  const Int width = c.attention.hidden;

  const Pass pass = working.run(slots, calls), plain = unzeroed.run(slots, calls);
  std::vector<std::pair<std::string, std::vector<Int>>> others = other_call_sizes(c.slots);
  others.emplace_back("calls of three", std::vector<Int>(std::size_t(c.slots / 3), 3));
  if (c.slots % 3 > 0) others.back().second.push_back(c.slots % 3);
  for (const auto& [name, sizes] : others) {
    check_same(name, working.run(slots, sizes), pass, report);
    check_same(name + ", position 0 as it is", unzeroed.run(slots, sizes), plain, report);
  }
  // Of position 0 only: a run that starts later has no such slot.
  const bool starts = std::find(c.positions.begin(), c.positions.end(), heed::Index{0}) != c.positions.end();
  report.require(starts ? "zeroing the embedding at position 0 changes logits"
                        : "without position 0 there is no embedding to zero",
                 same_bits(pass.logits, plain.logits) != starts);

  References want{one, {}, report};
  want.tolerance.farthest = farthest(c.positions);
  want.tolerance.logit_size =
      largest(c.attention.layer.naive(oracle::doubles(pass.q), oracle::doubles(pass.rows)).logit_size);
  check_scale(double(mla.scale), c.attention.layer.scale, report);
  check_parts(c, pass, mla, setup, want);
  check_parts(c, plain, mla, setup, want);

  want.plain("h_eh_proj", {c.slots, width}, oracle::doubles(pass.combined));
  const auto row_part = [&](Int first, Int count) {
    return oracle::columns(oracle::doubles(pass.rows), mla.row_width(), first, count);
  };
  want.plain("cache_latent", {c.slots, mla.kv_lora_rank}, row_part(0, mla.kv_lora_rank));
  want.rotated_by_float_angles("cache_k_pe", {c.slots, mla.qk_rope_head_dim},
                               row_part(mla.kv_lora_rank, mla.qk_rope_head_dim));
  if (setup.codec != "f32") {
    return skip_references(
        one, {"attn_out", "h_after_attn", "mlp_out", "hidden_out", "hidden_normed", "logits", "logits_mla_only",
              "logits_no_zeroing", "draft_tokens_post", "draft_logits_post", "draft_tokens_pre", "draft_logits_pre"});
  }
  want.output("attn_out", {c.slots, width}, pass.attention);
  want.output("h_after_attn", {c.slots, width}, pass.after_attention);
  want.output("mlp_out", {c.slots, width}, pass.feed_forward);
  want.output("hidden_out", {c.slots, width}, pass.hidden);
  want.output("hidden_normed", {c.slots, width}, pass.normed);
  want.output("logits", {c.slots, c.vocabulary}, pass.logits);
  want.output("logits_mla_only", {c.slots, c.vocabulary}, working.logits(pass.after_attention).first);
  want.output("logits_no_zeroing", {c.slots, c.vocabulary}, plain.logits);
  for (const auto& [name, recycling] :
       {std::pair{std::string("post"), oracle::Recycling::post}, {"pre", oracle::Recycling::pre}}) {
    const std::vector<Int> tokens = one.get<Int>("draft_tokens_" + name, {-1});
    const Drafts drafts = working.drafts(slots, calls, Int(tokens.size()), recycling);
    report.require("draft_tokens_" + name, drafts.tokens == tokens);
    want.output("draft_logits_" + name, {Int(tokens.size()), c.vocabulary}, drafts.logits);
  }
}

void run_mtp(Case& one, const Setup& setup, Report& report) {
  const MtpCase c = read(one);
  with_kernel(setup, [&]<class Backend, class Codec>() { compare<Backend, Codec>(one, c, setup, report); });
}

const Register mtp{{"mtp"}, run_mtp};

}  // namespace
}  // namespace heed_golden::mtp_handler
