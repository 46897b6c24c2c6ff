/// \file
/// The models of examples/data, and small random ones whose files a test can spoil.
#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "demo/backends.hpp"
#include "model/evaluate.hpp"
#include "sanitizers.hpp"

namespace heed_test {

using heed_examples::LanguageModel;
using heed_examples::Matrix;
using heed_examples::ModelOptions;
using heed_examples::Safetensors;

/// The mechanisms that tests run with: ThreadSanitizer looks at one, because what threads share is the same code for all.
[[nodiscard]] inline std::vector<std::string> mechanism_names() {
  std::vector<std::string> names = heed_examples::mechanism_names();
  if (HEED_TEST_TSAN) names.resize(1);
  return names;
}

/// The fastest backend.
[[nodiscard]] inline const heed_examples::ModelBackend& default_backend() {
  static const heed_examples::ModelBackend backend = heed_examples::demo_backends().front();
  return backend;
}

[[nodiscard]] inline heed::ThreadPool& serial_pool() {
  static const auto pool = heed::value_or_throw(heed::ThreadPool::create(1));
  return *pool;
}

/// How much of the held-out text a test reads that scores it. A sanitizer makes a model fifty times as slow; it sees the same
/// code in two windows of 1024 bytes, whose bits per byte are near those of the whole.
inline constexpr std::size_t max_heldout_bytes = HEED_TEST_ASAN || HEED_TEST_TSAN ? 2048 : std::size_t(-1);
inline constexpr double heldout_part_error = max_heldout_bytes == std::size_t(-1) ? 0 : 0.3;

[[nodiscard]] inline std::filesystem::path data(const std::string& file) {
  return std::filesystem::path(HEED_SOURCE_DIR) / "examples/data" / file;
}

/// One thread and the default backend.
[[nodiscard]] inline ModelOptions default_options(const std::string& codec = "f32") {
  return {.backend = &default_backend(), .executor = &serial_pool(), .codec = codec};
}

/// The trained model of a mechanism.
[[nodiscard]] inline LanguageModel open_model(const std::string& mechanism, const std::string& codec = "f32") {
  return LanguageModel::open(data(mechanism + ".safetensors"), default_options(codec));
}

/// A model file in parts.
struct ModelFile {
  nlohmann::json config;
  std::map<std::string, std::pair<std::vector<heed::Index>, std::vector<float>>> tensors;

  void add(const std::string& name, const std::vector<heed::Index>& shape) {
    heed::Index size = 1;
    for (const heed::Index extent : shape) size *= extent;
    std::mt19937 random(std::uint32_t(tensors.size()));
    std::normal_distribution<float> normal(0, 0.3f);
    std::vector<float> numbers;
    for (heed::Index i = 0; i < size; ++i) numbers.push_back(normal(random));
    tensors[name] = {shape, std::move(numbers)};
  }

  [[nodiscard]] std::vector<std::byte> bytes() const {
    nlohmann::json header{{"__metadata__", {{"config", config.dump()}}}};
    std::vector<float> all;
    for (const auto& [name, tensor] : tensors) {
      const std::size_t begin = all.size() * sizeof(float);
      all.insert(all.end(), tensor.second.begin(), tensor.second.end());
      header[name] = {{"dtype", "F32"}, {"shape", tensor.first}, {"data_offsets", {begin, all.size() * sizeof(float)}}};
    }
    const std::string text = header.dump();
    const std::uint64_t length = text.size();
    std::vector<std::byte> out(sizeof length + text.size() + all.size() * sizeof(float));
    std::memcpy(out.data(), &length, sizeof length);
    std::memcpy(out.data() + sizeof length, text.data(), text.size());
    std::memcpy(out.data() + sizeof length + text.size(), all.data(), all.size() * sizeof(float));
    return out;
  }
};

[[nodiscard]] inline ModelFile small_matmulfree_file() {
  ModelFile file;
  file.config = {{"mechanism", "matmulfree"},
                 {"vocab_size", 256},
                 {"hidden_size", 10},
                 {"num_hidden_layers", 2},
                 {"num_heads", 1},
                 {"expand_ratio", 1},
                 {"use_short_conv", false},
                 {"intermediate_size", 13},
                 {"max_position_embeddings", 20},
                 {"rms_norm_eps", 1e-6},
                 {"bitlinear_norm_eps", 1e-6},
                 {"use_lower_bound", true},
                 {"hidden_act", "swish"},
                 {"gate_order", "norm_gate_swish_h"},
                 {"tie_word_embeddings", false}};
  const auto projection = [&](const std::string& name, heed::Index out, heed::Index in) {
    file.add(name + ".weight", {out, in});
    file.add(name + ".norm.weight", {in});
  };
  file.add("model.embeddings.weight", {256, 10});
  file.add("model.lower_bounds", {2, 10});
  file.add("model.norm.weight", {10});
  projection("lm_head", 256, 10);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const char* norm : {"attn_norm", "mlp_norm", "attn.g_norm"}) file.add(prefix + norm + ".weight", {10});
    for (const char* name : {"i", "f", "g", "o"}) projection(prefix + "attn." + name + "_proj", 10, 10);
    projection(prefix + "mlp.gate_proj", 26, 10);
    projection(prefix + "mlp.down_proj", 10, 13);
  }
  return file;
}

/// A valid file: 2 layers, 4 heads, and sizes that are no multiple of a vector.
[[nodiscard]] inline ModelFile small_file(const std::string& mechanism = "gqa") {
  ModelFile file;
  if (mechanism == "matmulfree") return small_matmulfree_file();
  file.config = {
      {"mechanism", mechanism},   {"vocab_size", 256}, {"hidden_size", 10},       {"num_hidden_layers", 2},
      {"num_attention_heads", 4}, {"head_dim", 6},     {"intermediate_size", 13}, {"max_position_embeddings", 20},
      {"rms_norm_eps", 1e-5},     {"rope_theta", 1e4}, {"rope_layout", "half"},   {"tie_word_embeddings", true}};
  std::vector<std::pair<std::string, std::vector<heed::Index>>> attention;
  const bool routes = mechanism == "deepseek";
  if (mechanism == "mla" || routes) {
    file.config.update(
        {{"q_lora_rank", 7}, {"kv_lora_rank", 5}, {"qk_nope_head_dim", 3}, {"qk_rope_head_dim", 6}, {"v_head_dim", 9}});
    attention = {{"q_a_proj.weight", {7, 10}},   {"q_a_layernorm.weight", {7}},
                 {"q_b_proj.weight", {36, 7}},   {"kv_a_proj_with_mqa.weight", {11, 10}},
                 {"kv_a_layernorm.weight", {5}}, {"kv_b_proj.weight", {48, 5}},
                 {"o_proj.weight", {10, 36}}};
    if (routes) {
      file.config.update({{"n_routed_experts", 6},
                          {"num_experts_per_tok", 2},
                          {"n_shared_experts", 1},
                          {"moe_intermediate_size", 5},
                          {"first_k_dense_replace", 1},
                          {"n_group", 2},
                          {"topk_group", 1},
                          {"norm_topk_prob", true},
                          {"routed_scaling_factor", 1.5},
                          {"scoring_func", "sigmoid"},
                          {"topk_method", "noaux_tc"},
                          {"num_nextn_predict_layers", 1},
                          {"mtp_zero_first_embedding", false}});
    }
  } else if (mechanism == "mfa" || mechanism == "mfa_kr") {
    file.config["share_q_dim"] = 7;
    attention = {{"q_proj.weight", {7, 10}},
                 {"inter_norm.weight", {7}},
                 {"wq.weight", {24, 7}},
                 {"k_proj.weight", {6, 10}},
                 {"o_proj.weight", {10, 24}}};
    if (mechanism == "mfa") attention.push_back({"v_proj.weight", {6, 10}});
    if (mechanism == "mfa_kr") attention.insert(attention.end(), {{"n", {6, 6}}, {"alpha", {6}}});
  } else {
    const heed::Index kv_heads = mechanism.starts_with("mha") ? 4 : mechanism == "gqa" ? 2 : 1;
    if (mechanism == "mha_ansan") {
      file.config["retention"] = {{"rule", "anchors"}, {"anchor_ids", {'e', ' '}}, {"anchor_sees_anchors", false}};
    }
    if (mechanism == "mha_sepllm") {
      file.config["retention"] = {{"rule", "separators"}, {"initial", 1}, {"window", 5}, {"separator_ids", {'e', ' '}}};
    }
    file.config["num_key_value_heads"] = kv_heads;
    attention = {{"q_proj.weight", {24, 10}},
                 {"k_proj.weight", {kv_heads * 6, 10}},
                 {"v_proj.weight", {kv_heads * 6, 10}},
                 {"o_proj.weight", {10, 24}}};
  }
  file.add("model.embed_tokens.weight", {256, 10});
  file.add("model.norm.weight", {10});
  const auto feed_forward = [&](const std::string& name, heed::Index inner) {
    file.add(name + "gate_proj.weight", {inner, 10});
    file.add(name + "up_proj.weight", {inner, 10});
    file.add(name + "down_proj.weight", {10, inner});
  };
  for (int layer = 0; layer < (routes ? 3 : 2); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    file.add(prefix + "input_layernorm.weight", {10});
    file.add(prefix + "post_attention_layernorm.weight", {10});
    if (routes && layer > 0) {
      feed_forward(prefix + "mlp.shared_experts.", 5);
      file.add(prefix + "mlp.gate.weight", {6, 10});
      file.add(prefix + "mlp.gate.e_score_correction_bias", {6});
      for (int e = 0; e < 6; ++e) feed_forward(prefix + "mlp.experts." + std::to_string(e) + ".", 5);
    } else {
      feed_forward(prefix + "mlp.", 13);
    }
    if (layer == 2) {  // the MTP module
      for (const char* norm : {"enorm", "hnorm", "shared_head.norm"}) file.add(prefix + norm + ".weight", {10});
      file.add(prefix + "eh_proj.weight", {10, 20});
    }
    for (const auto& [name, shape] : attention) file.add(prefix + "self_attn." + name, shape);
  }
  return file;
}

[[nodiscard]] inline LanguageModel load(std::vector<std::byte> bytes, const ModelOptions& options) {
  return LanguageModel(Safetensors::parse(std::move(bytes), "small"), "small", options);
}
[[nodiscard]] inline LanguageModel load(std::vector<std::byte> bytes) {
  return load(std::move(bytes), default_options());
}

}  // namespace heed_test
