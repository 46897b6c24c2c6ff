// Trained models give what PyTorch gave for them: logits, greedy text, bits per byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "demo/models.hpp"

namespace heed_test::golden_test {
namespace {

class Trained : public testing::TestWithParam<std::string> {};

std::vector<std::uint8_t> bytes_of(const Safetensors& file, const std::string& tensor) {
  const std::vector<std::int64_t> numbers = file.get<std::int64_t>(tensor);
  return {numbers.begin(), numbers.end()};
}

std::vector<std::uint8_t> heldout_text() {
  std::ifstream file(data("heldout.txt"), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Whether a sum that differs in its last bit may become another integer, and that another logit.
bool rounds_activations(const std::string& mechanism) { return mechanism == "matmulfree"; }

TEST_P(Trained, LogitsAndGreedyTextArePyTorchs) {
  LanguageModel model = open_model(GetParam());
  const auto expected = Safetensors::open(data(GetParam() + ".expected.safetensors"));
  const std::vector<std::uint8_t> prompt = bytes_of(expected, "prompt");
  const std::vector<float> logits = expected.get<float>("logits");
  ASSERT_EQ(logits.size(), prompt.size() * 256);
  std::vector<float> errors;  // the largest of each position
  for (std::size_t position = 0; position < prompt.size(); ++position) {
    const Matrix& got = model.forward(std::span(prompt).subspan(position, 1));
    const Eigen::Map<const Matrix> want(logits.data() + position * 256, 1, 256);
    ASSERT_TRUE(got.allFinite()) << position;
    errors.push_back((got - want).cwiseAbs().maxCoeff());
  }
  const float worst = *std::max_element(errors.begin(), errors.end());
  if (rounds_activations(GetParam())) {
    std::nth_element(errors.begin(), errors.begin() + std::ptrdiff_t(errors.size() / 2), errors.end());
    EXPECT_LT(errors[errors.size() / 2], 1e-4f);
    EXPECT_LT(worst, 1);  // examples/train/rounding.py: other orders of additions move them by up to 0.64
  } else {
    EXPECT_LT(worst, 1e-3f);
  }
  const std::vector<std::uint8_t> continuation = bytes_of(expected, "greedy");
  EXPECT_EQ(greedy(model, prompt, heed::Index(continuation.size())), continuation);
}

TEST_P(Trained, ScoresHeldOutTextAsTheTrainerDid) {
  LanguageModel model = open_model(GetParam());
  ASSERT_TRUE(model.trained_bits_per_byte().has_value());
  auto text = heldout_text();
  text.resize(std::min(max_heldout_bytes, text.size()));
  const double bits = evaluate(model, text, {.chunk = 1024}).bits_per_byte;
  // The file has four decimals.
  EXPECT_NEAR(bits, *model.trained_bits_per_byte(),
              (rounds_activations(GetParam()) ? 1e-3 : 2e-4) + heldout_part_error);
}

TEST_P(Trained, ShorterNumbersInTheCacheCostLittle) {
  auto text = heldout_text();
  text.resize(1024);
  LanguageModel exact = open_model(GetParam());
  const double bits = evaluate(exact, text, {.chunk = 1024}).bits_per_byte;
  for (const char* codec : {"bf16", "f16"}) {
    LanguageModel model = open_model(GetParam(), codec);
    EXPECT_NEAR(evaluate(model, text, {.chunk = 1024}).bits_per_byte, bits, 0.01) << codec;
  }
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, Trained, testing::ValuesIn(mechanism_names()),
                         [](const auto& parameter) { return parameter.param; });

}  // namespace
}  // namespace heed_test::golden_test
