// Model files that are wrong: every message names the file and what in it, and nothing crashes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <tuple>

#include "demo/models.hpp"

namespace heed_test::malformed_test {
namespace {

// The message that loading throws, or "accepted".
std::string verdict(std::vector<std::byte> bytes) {
  try {
    std::ignore = load(std::move(bytes));
    return "accepted";
  } catch (const heed_examples::ModelError& error) {
    return error.what();
  } catch (const heed_examples::SafetensorsError& error) {
    return error.what();
  }
}

void expect_says(const std::string& message, const std::string& what) {
  EXPECT_EQ(message.substr(0, 7), "small: ") << message;
  EXPECT_NE(message.find(what), std::string::npos) << message;
}

void expect_config(const char* key, const nlohmann::json& value, const std::string& what,
                   const std::string& mechanism = "gqa") {
  ModelFile file = small_file(mechanism);
  file.config[key] = value;
  expect_says(verdict(file.bytes()), what);
}

TEST(MalformedConfig, IsNamedWithItsNumber) {
  expect_config("hidden_size", 0, "config 'hidden_size' is 0, must be an integer in 1 .. 65536");
  expect_config("hidden_size", -3, "config 'hidden_size' is -3");
  expect_config("hidden_size", 10.5, "config 'hidden_size' is 10.5");
  expect_config("hidden_size", 18446744073709551615u, "config 'hidden_size' is 18446744073709551615");
  expect_config("hidden_size", "10", "config 'hidden_size' is \"10\"");
  expect_config("num_hidden_layers", nullptr, "config 'num_hidden_layers' is null");
  expect_config("vocab_size", 32000, "config 'vocab_size' is 32000, must be an integer in 256 .. 256");
  expect_config("num_key_value_heads", 3, "config 'num_key_value_heads' is 3, must divide num_attention_heads 4");
  expect_config("num_key_value_heads", 8, "config 'num_key_value_heads' is 8, must be an integer in 1 .. 4");
  expect_config("max_position_embeddings", 1 << 30, "config 'max_position_embeddings' is 1073741824");
  expect_config("rms_norm_eps", 0, "config 'rms_norm_eps' is 0, must be a positive number");
  expect_config("rope_theta", -1.5, "config 'rope_theta' is -1.5");
  expect_config("rope_layout", "spiral", "\"half\" or \"interleaved\"");
  expect_config("tie_word_embeddings", 1, "config 'tie_word_embeddings' is 1, must be true or false");
  expect_config("mechanism", "telepathy",
                "config 'mechanism' is \"telepathy\", known are mha, gqa, mqa, mla, mfa, mfa_kr");
  expect_config("mechanism", "mha", "config 'num_key_value_heads' is 2, must be an integer in 4 .. 4");
  expect_config("mechanism", "mqa", "config 'num_key_value_heads' is 2, must be an integer in 1 .. 1");
}

TEST(MalformedConfig, OfLatentMechanisms) {
  expect_config("kv_lora_rank", 0, "config 'kv_lora_rank' is 0, must be an integer in 1 .. 16384", "mla");
  expect_config("q_lora_rank", nullptr, "config 'q_lora_rank' is null", "mla");
  expect_config("qk_rope_head_dim", 4, "config 'qk_rope_head_dim' is 4, must be an integer in 6 .. 6", "mla");
  expect_config("qk_nope_head_dim", 4, "q_b_proj.weight' has shape [36, 7], the config asks for [40, 7]", "mla");
  expect_config("v_head_dim", 8, "kv_b_proj.weight' has shape [48, 5], the config asks for [44, 5]", "mla");
  expect_config("share_q_dim", -1, "config 'share_q_dim' is -1, must be an integer in 1 .. 16384", "mfa");
  expect_config("mechanism", "mfa_kr", "has no tensor 'model.layers.0.self_attn.n'", "mfa");
  expect_config("mechanism", "mfa", "has no tensor 'model.layers.0.self_attn.v_proj.weight'", "mfa_kr");
}

class Malformed : public testing::TestWithParam<std::string> {};

TEST_P(Malformed, ConfigWithoutAKey) {
  const ModelFile whole = small_file(GetParam());
  for (const auto& [key, value] : whole.config.items()) {
    ModelFile file = whole;
    file.config.erase(key);
    // Without one of these it is the config of another model, whose tensors are not there.
    const bool optional = key == "n_routed_experts" || key == "num_nextn_predict_layers";
    expect_says(verdict(file.bytes()), optional ? "tensor 'model.layers." : "config has no '" + key + "'");
  }
}

TEST(MalformedConfig, NoJson) {
  ModelFile file = small_file();
  file.config = nlohmann::json::array({1, 2});
  expect_says(verdict(file.bytes()), "'config' in its metadata that is not a JSON object");
  expect_says(verdict({std::byte{2}, {}, {}, {}, {}, {}, {}, {}, std::byte{'{'}, std::byte{'}'}}), "no 'config'");
}

// A message that prints what it found must not print 100,000 levels, one call each.
TEST(MalformedConfig, DeepJson) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  for (const std::string& config : {deep, "{\\\"mechanism\\\":" + deep + "}"}) {
    const std::string header = R"({"__metadata__":{"config":")" + config + "\"}}";
    std::vector<std::byte> bytes(8 + header.size());
    const std::uint64_t size = header.size();
    std::memcpy(bytes.data(), &size, 8);
    std::memcpy(bytes.data() + 8, header.data(), header.size());
    expect_says(verdict(std::move(bytes)), "has a 'config' in its metadata that is nested deeper than 16");
  }
}

TEST_P(Malformed, TensorsAreNamedWithTheirShape) {
  const ModelFile whole = small_file(GetParam());
  for (const auto& [name, tensor] : whole.tensors) {
    ModelFile missing = whole;
    missing.tensors.erase(name);
    expect_says(verdict(missing.bytes()), "has no tensor '" + name + "'");

    ModelFile longer = whole;
    longer.tensors[name].first.back() += 1;
    longer.tensors[name].second.resize(longer.tensors[name].second.size() + std::size_t(tensor.first.front()));
    if (tensor.first.size() == 1) longer.tensors[name].second.resize(tensor.second.size() + 1);
    // The library checks the MatMul-free model's, and names a projection without ".weight" or ".norm.weight".
    std::string who = "tensor '" + name + "'";
    if (GetParam() == "matmulfree") who = name.substr(0, std::min(name.find("_proj."), name.find("head.")));
    expect_says(verdict(longer.bytes()), who);
    expect_says(verdict(longer.bytes()), " has shape [");

    ModelFile infinite = whole;
    infinite.tensors[name].second[4] = INFINITY;
    expect_says(verdict(infinite.bytes()), "tensor '" + name + "' holds inf at 4");
  }
}

TEST(MalformedTensors, UnusedOnesAreRefused) {
  ModelFile file = small_file();
  file.add("model.layers.0.self_attn.q_proj.bias", {24});
  expect_says(verdict(file.bytes()),
              "has tensor 'model.layers.0.self_attn.q_proj.bias', which this mechanism does not");
}

TEST(MalformedTensors, RopeNeedsPairs) {
  ModelFile file = small_file();
  file.config["head_dim"] = 3;
  file.config["num_attention_heads"] = 8;
  file.config["num_key_value_heads"] = 4;
  expect_says(verdict(file.bytes()), "rotary_dim is 3");
  file = small_file("mla");
  file.config["head_dim"] = file.config["qk_rope_head_dim"] = 5;
  expect_says(verdict(file.bytes()), "rotary_dim is 5");
}

// Whatever is left of a file, loading either throws one of ours or gives a model that runs.
void expect_no_crash(std::vector<std::byte> bytes) {
  try {
    LanguageModel model = load(std::move(bytes));
    std::ignore = model.forward(std::vector<std::uint8_t>{1, 2, 3});
  } catch (const heed_examples::ModelError&) {
  } catch (const heed_examples::SafetensorsError&) {
  } catch (const heed::Error&) {
  }
}

TEST_P(Malformed, CutAnywhereOrWithAnyByteChanged) {
  const std::vector<std::byte> whole = small_file(GetParam()).bytes();
  for (std::size_t size = 0; size < whole.size(); size += 1 + size / 20) {
    expect_no_crash({whole.begin(), whole.begin() + std::ptrdiff_t(size)});
  }
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof header);
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::byte> bytes = whole;
    bytes[random() % (8 + header)] = std::byte(random() % 128);
    expect_no_crash(std::move(bytes));
  }
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, Malformed, testing::ValuesIn(mechanism_names()),
                         [](const auto& parameter) { return parameter.param; });

TEST(MalformedOptions, AreNamed) {
  try {
    std::ignore = load(small_file().bytes(), default_options("f8"));
    FAIL();
  } catch (const heed_examples::ModelError& error) {
    EXPECT_STREQ(error.what(), "codec is 'f8', must be one of f32, bf16, f16");
  }
}

}  // namespace
}  // namespace heed_test::malformed_test
