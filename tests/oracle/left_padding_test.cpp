// Golden cases that the oracle made from others: left padding before a text (attention_mask), and an MTP run that does not
// start at position 0. A text is the same with padding before it, which ties these cases to the official code's numbers.
//
// They are written again by
//     HEED_GOLDEN_OUT=folder heed_test_oracle --gtest_also_run_disabled_tests --gtest_filter='*WritesThem'
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "oracle/golden_cases.hpp"
#include "oracle/matmulfree.hpp"
#include "oracle/mtp_of.hpp"

namespace heed_test::left_padding_test {
namespace {

using oracle::Int;
using oracle::Numbers;
using oracle::golden::Safetensors;
using Json = nlohmann::json;

constexpr Int later = 5;  // where the MTP run begins

/// A case with `padding` tokens before those of another one, and some of its config's options changed.
struct Made {
  std::string file, base;
  Int padding;
  Json changes;
};
const std::vector<Made>& made_cases() {
  static const std::vector<Made> all{
      {"mlgru_layer0_left_pad", "mlgru_layer0", 3, Json::object()},
      {"mlgru_layer1_left_pad", "mlgru_layer1_lower_bound", 5, Json::object()},
      {"mlgru_layer1_left_pad_no_bound", "mlgru_layer0", 4, {{"layer_idx", 1}, {"use_lower_bound", false}}},
      {"mlgru_layer2_left_pad", "mlgru_layer1_lower_bound", 1, {{"layer_idx", 2}}},
      {"matmulfree_lm_left_pad", "matmulfree_lm_2layer", 4, Json::object()},
      {"matmulfree_lm_left_pad_no_bound", "matmulfree_lm_2layer", 2, {{"use_lower_bound", false}}},
      {"mtp_tiny_later", "mtp_tiny", 0, {{"position_offset", later}}},
  };
  return all;
}

oracle::golden::Case case_of(const std::string& name) {
  for (const auto& one : oracle::golden::cases_of({"mlgru", "matmulfree_lm", "mtp"})) {
    if (one.file == name + ".safetensors") return one;
  }
  throw std::runtime_error("there is no case " + name);
}

/// Per token in the cases, a row each.
const std::vector<std::string> rows_of_tokens{
    "x", "input_ids", "f", "c", "g", "h", "out_norm_gate_swish_h", "out_norm_h_swish_gate", "hidden_final", "logits"};

/// Padding is seen in the mask and nowhere after it.
TEST(LeftPadding, LeavesATextAsItIs) {
  for (const Made& made : made_cases()) {
    if (made.padding == 0 || !made.changes.empty()) continue;
    SCOPED_TRACE(made.file);
    const Safetensors padded = case_of(made.file).open(), base = case_of(made.base).open();
    const auto mask = padded.get<Int>("attention_mask");
    for (Int t = 0; t < Int(mask.size()); ++t) ASSERT_EQ(mask[std::size_t(t)], t < made.padding ? 0 : 1);
    int compared = 0;
    for (const std::string& name : rows_of_tokens) {
      if (!base.contains(name)) continue;
      const auto want = base.get<double>(name), got = padded.get<double>(name);
      const auto width = std::ptrdiff_t(want.size()) / base.info(name).shape.at(0);
      ASSERT_EQ(std::ptrdiff_t(got.size()), std::ptrdiff_t(want.size()) + made.padding * width) << name;
      oracle::golden::expect_near({got.begin() + made.padding * width, got.end()}, want, 1e-12, name);
      ++compared;
    }
    EXPECT_GE(compared, 3);
    const auto states = padded.contains("h") ? padded.get<double>("h") : Numbers{};
    const auto width = padded.contains("h") ? padded.info("h").shape.at(1) : 0;
    for (Int i = 0; i < made.padding * width; ++i) EXPECT_EQ(states[std::size_t(i)], 0) << "the state of padding";
  }
}

// --- writing them -------------------------------------------------------------------------------------------------------

/// A safetensors file.
class Writer {
 public:
  template <class T>
  void add(const std::string& name, const char* dtype, const std::vector<Int>& shape, const std::vector<T>& numbers) {
    const auto* const bytes = reinterpret_cast<const char*>(numbers.data());
    add_bytes(name, dtype, shape, {bytes, numbers.size() * sizeof(T)});
  }
  void add_bytes(const std::string& name, const std::string& dtype, const std::vector<Int>& shape,
                 std::string_view bytes) {
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
  }
  void add(const std::string& name, const std::vector<Int>& shape, const Numbers& numbers) {
    add(name, "F64", shape, numbers);
  }
  [[nodiscard]] bool has(const std::string& name) const { return header_.contains(name); }
  /// All inputs of a file that were not added: what is stored in 32 bits.
  void add_inputs(const Safetensors& file) {
    for (const auto& [name, info] : file.tensors()) {
      if (has(name) || (info.dtype_name == "F64" && !name.ends_with("mean_abs"))) continue;
      const auto bytes = file.bytes(name);
      add_bytes(name, info.dtype_name, info.shape, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
  }
  void write(const std::string& path) const {
    std::string header = header_.dump();
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const auto size = std::uint64_t(header.size());
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof size);
    file << header << data_;
    if (!file) throw std::runtime_error(path + " cannot be written");
  }

 private:
  Json header_ = Json::object();
  std::string data_;
};

/// The tokens of a text turned around, for padding: any would do.
template <class T>
std::vector<T> padded(const std::vector<T>& text, Int padding, Int width) {
  std::vector<T> all;
  for (Int t = padding; t > 0; --t) all.insert(all.end(), text.begin() + t * width, text.begin() + (t + 1) * width);
  all.insert(all.end(), text.begin(), text.end());
  return all;
}
template <class T>
std::vector<std::int32_t> int32s(const std::vector<T>& numbers) {
  return {numbers.begin(), numbers.end()};
}

/// What is common: the mask, and calls of which the first has padding only, if there is enough.
std::vector<Int> add_mask(Writer& to, const Safetensors& base, Int padding, Int tokens) {
  std::vector<std::int32_t> mask(std::size_t(padding + tokens), 1);
  std::fill_n(mask.begin(), padding, 0);
  to.add("attention_mask", "I32", {padding + tokens}, mask);
  std::vector<Int> calls = base.get<Int>("chunk_lens");
  const Int alone = padding > 2 ? 2 : 0;
  calls.front() += padding - alone;
  if (alone > 0) calls.insert(calls.begin(), alone);
  to.add("chunk_lens", "I32", {Int(calls.size())}, int32s(calls));
  return calls;
}

void write_mlgru(Writer& to, const Safetensors& base, const Json& config, Int padding) {
  const Int width = config.at("hidden_size"), layer = config.at("layer_idx");
  const auto projection = [&](const std::string& name) {
    return oracle::bit_linear(base.get<double>(name + ".weight"), base.get<double>(name + ".norm.weight"),
                              config.at("bitlinear_norm_eps"));
  };
  oracle::Mlgru mlgru{.i_proj = projection("i_proj"),
                      .f_proj = projection("f_proj"),
                      .g_proj = projection("g_proj"),
                      .o_proj = projection("o_proj"),
                      .g_norm = base.get<double>("g_norm.weight"),
                      .g_norm_eps = config.at("rms_norm_eps")};
  const Numbers bounds = oracle::lower_bounds(base.get<double>("lower_bounds_param"), width);
  const Numbers bound = oracle::columns(bounds, Int(bounds.size()), layer * width, width);
  to.add("lower_bound", {width}, bound);
  if (config.at("use_lower_bound") && layer > 0) mlgru.lower_bound = bound;
  const std::vector<float> x = padded(base.get<float>("x"), padding, width);
  const Int tokens = Int(x.size()) / width;
  to.add("x", "F32", {tokens, width}, x);
  const std::vector<Int> calls = add_mask(to, base, padding, tokens - padding);
  std::vector<bool> mask(std::size_t(tokens), false);
  std::fill_n(mask.begin(), padding, true);
  for (const auto& [out, order] : {std::pair{"out_norm_gate_swish_h", oracle::GateOrder::norm_gate_swish_h},
                                   {"out_norm_h_swish_gate", oracle::GateOrder::norm_h_swish_gate}}) {
    mlgru.order = order;
    Numbers state, states;
    const auto all = mlgru.scan({x.begin(), x.end()}, state, mask);
    to.add(out, {tokens, width}, all.out);
    if (order != oracle::GateOrder::norm_gate_swish_h) continue;
    to.add("f", {tokens, width}, all.f);
    to.add("c", {tokens, width}, all.c);
    to.add("g", {tokens, width}, all.g);
    to.add("h", {tokens, width}, all.h);
    Int at = 0;
    for (const Int call : calls) {
      at += call;
      states.insert(states.end(), all.h.begin() + (at - 1) * width, all.h.begin() + at * width);
    }
    to.add("state_after_calls", {Int(calls.size()), width}, states);
  }
}

void write_lm(Writer& to, const Safetensors& base, const Json& config, Int padding) {
  const oracle::MatmulFreeConfig shape{.hidden_size = config.at("hidden_size"),
                                       .num_hidden_layers = config.at("num_hidden_layers"),
                                       .rms_norm_eps = config.at("rms_norm_eps"),
                                       .bitlinear_norm_eps = config.at("bitlinear_norm_eps"),
                                       .use_lower_bound = config.at("use_lower_bound")};
  const auto lm = oracle::MatmulFreeLm::load(shape, [&](const std::string& name) { return base.get<double>(name); });
  const auto ids = padded(base.get<Int>("input_ids"), padding, 1);
  const Int tokens = Int(ids.size());
  to.add("input_ids", "I32", {tokens}, int32s(ids));
  const std::vector<Int> calls = add_mask(to, base, padding, tokens - padding);
  std::vector<bool> mask(std::size_t(tokens), false);
  std::fill_n(mask.begin(), padding, true);
  const auto answer = lm.forward(ids, calls, mask);
  to.add("hidden_final", {tokens, shape.hidden_size}, answer.hidden_final);
  to.add("logits", {tokens, Int(answer.logits.size()) / tokens}, answer.logits);
  to.add("states_after_calls", {Int(calls.size()), shape.num_hidden_layers, shape.hidden_size}, answer.states);
}

void write_mtp(Writer& to, const Safetensors& base, const Json& config) {
  oracle::Mtp mtp = oracle::golden::mtp_of(config, base);
  oracle::Mtp::Slots slots{base.get<Int>("input_ids"), base.get<double>("previous_hidden_states"),
                           base.get<Int>("positions")};
  for (Int& position : slots.positions) position += later;
  const Int n = Int(slots.tokens.size()), width = mtp.hidden_size(), vocabulary = mtp.vocabulary();
  to.add("positions", "I32", {n}, int32s(slots.positions));
  const oracle::Mtp::Trace t = mtp.run(slots);
  const Int rank = mtp.attention.kv_lora_rank, rope = mtp.attention.qk_rope_head_dim;
  to.add("h_eh_proj", {n, width}, t.combined);
  to.add("cache_latent", {n, rank}, oracle::columns(t.rows, rank + rope, 0, rank));
  to.add("cache_k_pe", {n, rope}, oracle::columns(t.rows, rank + rope, rank, rope));
  to.add("attn_out", {n, width}, t.attention);
  to.add("h_after_attn", {n, width}, t.after_attention);
  to.add("mlp_out", {n, width}, t.feed_forward);
  to.add("hidden_out", {n, width}, t.hidden);
  to.add("hidden_normed", {n, width}, t.normed);
  to.add("logits", {n, vocabulary}, t.logits);
  to.add("logits_mla_only", {n, vocabulary}, mtp.logits(t.after_attention));
  for (const auto& [name, recycling] :
       {std::pair{std::string("post"), oracle::Recycling::post}, {"pre", oracle::Recycling::pre}}) {
    const Int count = base.info("draft_tokens_" + name).shape.at(0);
    const auto drafts = mtp.drafts(slots, count, recycling);
    to.add("draft_tokens_" + name, "I32", {count}, int32s(drafts.tokens));
    to.add("draft_logits_" + name, {count, vocabulary}, drafts.logits);
  }
  mtp.zero_first_embedding = false;
  to.add("logits_no_zeroing", {n, vocabulary}, mtp.run(slots).logits);
}

TEST(LeftPadding, DISABLED_WritesThem) {
  const char* const folder = std::getenv("HEED_GOLDEN_OUT");
  ASSERT_NE(folder, nullptr) << "HEED_GOLDEN_OUT names the folder";
  for (const Made& made : made_cases()) {
    const auto from = case_of(made.base);
    const Safetensors base = from.open();
    Json config = from.config;
    config.update(made.changes);
    Writer to;
    if (base.contains("x")) {
      write_mlgru(to, base, config, made.padding);
    } else if (made.padding > 0) {
      write_lm(to, base, config, made.padding);
    } else {
      write_mtp(to, base, config);
    }
    to.add_inputs(base);
    to.write(std::string(folder) + "/" + made.file + ".safetensors");
  }
}

}  // namespace
}  // namespace heed_test::left_padding_test
