// MLGRU, the gated channel mixer and the MatMul-free language model, from a checkpoint's tensors to outputs and states:
// floats within 2e-5 of a row's largest number, and the same bits on every backend, in both layouts and in any calls.
#include <string>
#include <utility>
#include <vector>

#include <heed/ternary/matmulfree_lm.hpp>

#include "golden/handlers/ternary_run.hpp"

namespace heed_golden::ternary_layers_handler {
namespace {

void expect_plain_mixer(Config& config) {
  if (config.get_or<Int>("num_heads", 1) != 1) throw Unusable("num_heads must be 1");
  if (config.get_or<Int>("expand_ratio", 1) != 1) throw Unusable("expand_ratio must be 1");
  if (config.get_or("use_short_conv", false)) throw Unusable("use_short_conv is not supported by this handler");
  config.expect("hidden_act", "swish");
  config.skip("seed");
}

template <class L>
heed::BitLinear<L> read_linear(Case& one, const std::string& name, Int out, Int in) {
  const auto weight = one.get<float>(name + ".weight", {out, in}), gain = one.get<float>(name + ".norm.weight", {in});
  return heed::value_or_throw(heed::BitLinear<L>::create(name.c_str(), {weight, out, in}, out, in, {gain, 1, in},
                                                         {.norm_eps = one.config.get<double>("bitlinear_norm_eps")}));
}

/// One layer's life in a state: out of all tokens, and the state after each call.
template <class Backend, class L>
std::pair<Floats, Floats> run_state(const heed::Mlgru<L>& layer, const Floats& x, const Padding& padding,
                                    const std::vector<Int>& calls) {
  const Int width = layer.hidden_size();
  auto state = heed::value_or_throw(heed::RecurrentState::create({.layers = 1, .width = width}));
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  Floats out, states;
  Int at = 0;
  for (const Int count : calls) {
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(count)));
    const auto place = heed::value_or_throw(step.layer(0));
    Floats y(std::size_t(count * width));
    heed::check(layer.template forward<Backend>(slice(x, at, count, width), place, y, workspace, executor,
                                                padding.part(at, count)));
    heed::check(step.commit());
    append(out, y);
    append(states, state.state(0));
    at += count;
  }
  return {out, states};
}

void run_mlgru(Case& one, const Setup& setup, Report& report) {
  Config& config = one.config;
  expect_plain_mixer(config);
  const Int width = config.get<Int>("hidden_size"), layer = config.get<Int>("layer_idx"),
            layers = config.get<Int>("num_hidden_layers");
  const auto x = one.get<float>("x", {-1, width});
  const Int tokens = Int(x.size()) / width;
  const auto parameter = one.get<float>("lower_bounds_param", {layers, width});
  Floats bounds(parameter.size());
  heed::check(heed::forget_lower_bounds(parameter, layers, width, bounds));
  const Floats bound = slice(bounds, layer, 1, width);
  const bool bounded = config.get<bool>("use_lower_bound") && layer > 0;
  const auto g_norm = one.get<float>("g_norm.weight", {width});
  const Padding padding = read_padding(one, tokens);
  const Calls calls = all_calls(one, tokens);
  const std::pair<const char*, heed::GateOrder> orders[] = {
      {"out_norm_gate_swish_h", heed::GateOrder::norm_gate_swish_h},
      {"out_norm_h_swish_gate", heed::GateOrder::norm_h_swish_gate}};

  const auto compute = [&]<class Backend, class L>() {
    const auto projection = [&](const char* name) { return read_linear<L>(one, name, width, width); };
    Results results;
    for (const auto& [name, order] : orders) {
      const auto mixer = heed::value_or_throw(heed::Mlgru<L>::create(
          {projection("i_proj"), projection("f_proj"), projection("g_proj"), projection("o_proj")}, {g_norm, 1, width},
          bounded ? std::span(bound) : std::span<const float>(), {order, config.get<double>("rms_norm_eps")}));
      for (const auto& [call, sizes] : calls) {
        auto [out, states] = run_state<Backend>(mixer, x, padding, sizes);
        results[name + (", " + call)] = std::move(out);
        results["states, " + call] = std::move(states);
      }
      if (!padding.only_left()) continue;
      const Int rest = tokens - padding.left;
      auto [out, states] = run_state<Backend>(mixer, slice(x, padding.left, rest, width), {}, {rest});
      results[name + std::string(", without the padding")] = std::move(out);
      results["states, without the padding"] = std::move(states);
    }
    // The gates by themselves: a state of 1 and no input becomes f, a state of 0 becomes c, which padding leaves at 0.
    const auto i = linear_in_calls<Backend>(projection("i_proj"), x, {tokens});
    const auto f = linear_in_calls<Backend>(projection("f_proj"), x, {tokens});
    results["g"] = linear_in_calls<Backend>(projection("g_proj"), x, {tokens});
    results["f"] = Floats(x.size(), 1.0f);
    results["c"] = Floats(x.size(), 0.0f);
    const float* const lowest = bounded ? bound.data() : nullptr;
    for (Int t = 0; t < tokens; ++t) {
      const Int at = t * width;
      const bool masked = !padding.masked.empty() && padding.masked[std::size_t(t)] != 0;
      Backend::Gates::gated_mix(i.data() + at, f.data() + at, lowest, true, width, results["f"].data() + at);
      Backend::Gates::gated_mix(i.data() + at, f.data() + at, lowest, masked, width, results["c"].data() + at);
    }
    return results;
  };
  const Results got = computed(setup, compute, report);
  const auto near = [&](const std::string& name, const Floats& numbers) {
    check_rows_near(name, numbers, one.get<double>(name, {Int(numbers.size()) / width, width}), width, report);
  };
  check_rows_near("lower_bound", bound, one.get<double>("lower_bound", {width}), width, report);
  for (const char* name : {"f", "c", "g"}) near(name, got.at(name));
  near("h", got.at("states, one token per call"));
  near("state_after_calls", got.at("states, calls of the case"));
  const Floats& last = got.at("states, all tokens in one call");
  for (const auto& [call, sizes] : calls) {
    const Floats& states = got.at("states, " + call);
    report.require(call + " end in the same state", same_bits(slice(states, Int(sizes.size()) - 1, 1, width), last));
    for (const auto& [name, order] : orders) {
      report.require(name + (" has the same bits in " + call),
                     same_bits(got.at(name + (", " + call)), got.at(name + (", " + calls.front().first))));
    }
  }
  for (const auto& [name, order] : orders) near(name, got.at(name + (", " + calls.front().first)));
  if (!padding.only_left()) return;
  report.require("padding before a text leaves its state", same_bits(got.at("states, without the padding"), last));
  for (const auto& [name, order] : orders) {
    const Floats& padded = got.at(name + (", " + calls.front().first));
    report.require(name + std::string(" is that of the text without padding"),
                   same_bits(got.at(name + std::string(", without the padding")),
                             slice(padded, padding.left, tokens - padding.left, width)));
  }
}

void run_glu(Case& one, const Setup& setup, Report& report) {
  expect_plain_mixer(one.config);
  const Int width = one.config.get<Int>("hidden_size"), inner = one.config.get<Int>("intermediate_size");
  const auto x = one.get<float>("x", {-1, width});
  const Int tokens = Int(x.size()) / width;
  static_cast<void>(read_padding(one, tokens));  // a token is mixed with no other
  const Calls calls = all_calls(one, tokens);
  const auto compute = [&]<class Backend, class L>() {
    const auto mixer = heed::value_or_throw(heed::BitGlu<L>::create(read_linear<L>(one, "gate_proj", 2 * inner, width),
                                                                    read_linear<L>(one, "down_proj", width, inner)));
    Results results;
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    for (const auto& [name, sizes] : calls) {
      Int at = 0;
      for (const Int count : sizes) {
        Floats y(std::size_t(count * width));
        heed::check(mixer.template forward<Backend>(slice(x, at, count, width), y, workspace, executor));
        append(results[name], y);
        at += count;
      }
    }
    return results;
  };
  const Results got = computed(setup, compute, report);
  const Floats& main = got.at(calls.front().first);
  for (const auto& [name, numbers] : got) report.require(name + " give the same bits", same_bits(numbers, main));
  check_rows_near("out", main, one.get<double>("out", {tokens, width}), width, report);
}

template <class Backend, class L>
Results run_model(const heed::MatMulFreeLm<L, heed::F32>& lm, const std::vector<std::int32_t>& ids,
                  const Padding& padding, const std::vector<Int>& calls) {
  auto state = heed::value_or_throw(lm.make_state());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const auto vocabulary = std::size_t(lm.config().vocab_size);
  Results results;
  std::size_t at = 0;
  for (const Int count : calls) {
    const auto part = std::span(ids).subspan(at, std::size_t(count));
    const std::vector<std::uint8_t> masked = padding.part(Int(at), count);
    at += std::size_t(count);
    Floats last(vocabulary), logits(std::size_t(count) * vocabulary);
    {
      auto step = heed::value_or_throw(state.begin(part));
      heed::check(lm.template forward<Backend>(part, step, last, workspace, executor, masked));
    }  // forgotten: the same tokens once more
    auto step = heed::value_or_throw(state.begin(part));
    heed::check(lm.template forward<Backend>(part, step, logits, workspace, executor, masked));
    heed::check(step.commit());
    append(results["logits"], logits);
    append(results["last logits"], last);
    append(results["last logits of all"], std::span(logits).last(vocabulary));
    for (Int l = 0; l < state.layers(); ++l) append(results["states"], state.state(l));
  }
  return results;
}

void run_lm(Case& one, const Setup& setup, Report& report) {
  Config& config = one.config;
  expect_plain_mixer(config);
  config.expect("model_type", "hgrn_bit");
  config.expect("gate_order", "norm_gate_swish_h");
  if (config.get_or("tie_word_embeddings", false)) throw Unusable("tie_word_embeddings is not supported");
  const heed::MatMulFreeConfig model{.vocab_size = config.get<Int>("vocab_size"),
                                     .hidden_size = config.get<Int>("hidden_size"),
                                     .num_hidden_layers = config.get<Int>("num_hidden_layers"),
                                     .intermediate_size = config.get<Int>("intermediate_size"),
                                     .rms_norm_eps = config.get<double>("rms_norm_eps"),
                                     .bitlinear_norm_eps = config.get<double>("bitlinear_norm_eps"),
                                     .use_lower_bound = config.get<bool>("use_lower_bound")};
  const auto given = one.get<Int>("input_ids", {-1});
  const std::vector<std::int32_t> ids(given.begin(), given.end());
  const Int tokens = Int(ids.size()), width = model.hidden_size, layers = model.num_hidden_layers;
  const Padding padding = read_padding(one, tokens);
  const Calls calls = all_calls(one, tokens);

  Floats kept;
  const auto tensor = [&](const char* name) -> heed::Result<heed::Tensor> {
    const TensorShape shape = one.shape(name);
    kept = one.get<float>(name, shape);
    return heed::Tensor{kept, shape.size() < 2 ? 1 : shape[0], shape.back()};
  };
  const auto compute = [&]<class Backend, class L>() {
    const auto lm = heed::value_or_throw(heed::MatMulFreeLm<L, heed::F32>::from_floats(model, tensor));
    Results results;
    for (const auto& [call, sizes] : calls) {
      for (auto& [name, numbers] : run_model<Backend>(lm, ids, padding, sizes)) {
        results[name + ", " + call] = std::move(numbers);
      }
    }
    if (padding.only_left()) {
      const std::vector<std::int32_t> text(ids.begin() + padding.left, ids.end());
      for (auto& [name, numbers] : run_model<Backend>(lm, text, {}, {Int(text.size())})) {
        results[name + ", without the padding"] = std::move(numbers);
      }
    }
    return results;
  };
  const Results got = computed(setup, compute, report);
  std::vector<std::string> projections{"lm_head"};
  for (Int l = 0; l < layers; ++l) {
    for (const char* name :
         {"attn.i_proj", "attn.f_proj", "attn.g_proj", "attn.o_proj", "mlp.gate_proj", "mlp.down_proj"}) {
      projections.push_back("model.layers." + std::to_string(l) + "." + name);
    }
  }
  for (const std::string& name : projections) {
    const TensorShape shape = one.shape(name + ".weight");
    const auto master = one.get<float>(name + ".weight", shape);
    const auto matrix = heed::value_or_throw(heed::ternary_from_floats(name.c_str(), {master, shape[0], shape[1]}));
    check_exact(name + ".weight.ternary", one.get<Int>(name + ".weight.ternary", shape), values(matrix), report);
    check_rows_near(name + ".weight.mean_abs", {matrix.scale()}, one.get<double>(name + ".weight.mean_abs", {}), 1,
                    report);
  }
  const std::string main = calls.front().first;
  const auto states_of = [&](const std::string& call) { return got.at("states, " + call); };
  for (const auto& [call, sizes] : calls) {
    report.require("logits have the same bits in " + call,
                   same_bits(got.at("logits, " + call), got.at("logits, " + main)));
    report.require("the last token's logits alone have the same bits in " + call,
                   same_bits(got.at("last logits, " + call), got.at("last logits of all, " + call)));
    const Floats states = states_of(call), end = states_of("all tokens in one call");
    report.require(call + " end in the same state",
                   same_bits(slice(states, Int(sizes.size()) - 1, 1, layers * width), end));
  }
  if (padding.only_left()) {
    const Int rest = tokens - padding.left;
    report.require("padding before a text leaves its states",
                   same_bits(states_of("without the padding"), states_of("all tokens in one call")));
    report.require("logits are those of the text without padding",
                   same_bits(got.at("logits, without the padding"),
                             slice(got.at("logits, " + main), padding.left, rest, model.vocab_size)));
  }
  const auto calls_of_case = Int(calls.front().second.size());
  check_rows_near("states_after_calls", states_of(main),
                  one.get<double>("states_after_calls", {calls_of_case, layers, width}), width, report);
  check_rows_near("logits", got.at("logits, " + main), one.get<double>("logits", {tokens, model.vocab_size}),
                  model.vocab_size, report);
}

const Register mlgru{{"mlgru"}, run_mlgru};
const Register glu{{"glu_channel_mixer"}, run_glu};
const Register lm{{"matmulfree_lm"}, run_lm};

}  // namespace
}  // namespace heed_golden::ternary_layers_handler
