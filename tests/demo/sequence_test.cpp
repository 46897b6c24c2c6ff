// A model on heed's cache: the same bits however a text is cut into steps, bytes that are what they should be, and
// errors that leave the text as it was.
#include <gtest/gtest.h>

#include "demo/models.hpp"

namespace heed_test::sequence_test {
namespace {

using heed::Index;

std::vector<std::uint8_t> text_of(std::size_t size) {
  std::vector<std::uint8_t> text;
  for (std::size_t i = 0; i < size; ++i) text.push_back(std::uint8_t("In the beginning "[i % 17]));
  return text;
}

// Logits of all positions, fed `chunk` bytes at a time.
Matrix logits_of(LanguageModel& model, const std::vector<std::uint8_t>& text, std::size_t chunk) {
  Matrix all(Index(text.size()), 256);
  model.clear();
  for (std::size_t at = 0; at < text.size(); at += chunk) {
    const std::size_t count = std::min(chunk, text.size() - at);
    all.middleRows(Index(at), Index(count)) = model.forward(std::span(text).subspan(at, count));
  }
  return all;
}

class EveryMechanism : public testing::TestWithParam<std::string> {};

TEST_P(EveryMechanism, APromptAtOnceHasTheSameBitsAsByteByByte) {
  LanguageModel model = open_model(GetParam(), "bf16");
  const auto text = text_of(300);
  const Matrix one_by_one = logits_of(model, text, 1);
  EXPECT_EQ(logits_of(model, text, 300), one_by_one);
  EXPECT_EQ(logits_of(model, text, 7), one_by_one);
}

TEST_P(EveryMechanism, ThreadsDoNotChangeBits) {
  const auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  LanguageModel model = open_model(GetParam());
  LanguageModel threaded = LanguageModel::open(data(GetParam() + ".safetensors"),
                                               {.backend = &default_backend(), .executor = pool.get(), .codec = "f32"});
  EXPECT_EQ(logits_of(threaded, text_of(280), 280), logits_of(model, text_of(280), 280));
}

TEST_P(EveryMechanism, MeasuredBytesPerTokenAreTheFormula) {
  for (const char* codec : {"f32", "bf16", "f16"}) {
    LanguageModel model = open_model(GetParam(), codec);
    const Index before = model.memory().formula_bytes(0);  // a state is there before the first byte
    EXPECT_EQ(model.memory().bytes().live, before);
    std::ignore = model.forward(text_of(100));
    const heed::CacheBytes bytes = model.memory().bytes();
    EXPECT_EQ(bytes.seen, 100);
    EXPECT_EQ(bytes.kept,
              GetParam() == "mha_ansan" || GetParam() == "mha_sepllm" ? model.memory().retention().kept : 100);
    EXPECT_EQ(bytes.live, model.memory().formula_bytes(Index(bytes.kept))) << codec;
    EXPECT_GE(bytes.allocated, bytes.live);
    model.clear();
    EXPECT_EQ(model.memory().bytes().live, before);
    EXPECT_EQ(model.memory().bytes().allocated, bytes.allocated);
  }
}

TEST_P(EveryMechanism, SizesNeedNotFitVectors) {
  LanguageModel model = load(small_file(GetParam()).bytes());
  const Matrix one_by_one = logits_of(model, text_of(20), 1);
  EXPECT_TRUE(one_by_one.allFinite());
  EXPECT_LT((logits_of(model, text_of(20), 20) - one_by_one).cwiseAbs().maxCoeff(), 1e-5f);
}

TEST_P(EveryMechanism, RefusesMoreThanItsPositionsAndForgetsNothing) {
  const auto file = small_file(GetParam()).bytes();
  LanguageModel model = load(file), undisturbed = load(file);
  std::ignore = model.forward(text_of(15));
  std::ignore = undisturbed.forward(text_of(15));
  try {
    std::ignore = model.forward(text_of(6));
    FAIL() << "21 of 20 positions";
  } catch (const heed::Error& error) {
    EXPECT_EQ(error.status().code(), heed::StatusCode::out_of_range);
    EXPECT_NE(std::string(error.what()).find("20"), std::string::npos) << error.what();
  }
  EXPECT_EQ(model.memory().bytes().seen, 15);
  EXPECT_EQ(model.forward(text_of(5)), undisturbed.forward(text_of(5)));
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, EveryMechanism, testing::ValuesIn(mechanism_names()),
                         [](const auto& parameter) { return parameter.param; });

TEST(Formula, IsThePapersForTheExampleModels) {  // layers x numbers x 2 bytes
  EXPECT_EQ(open_model("mha", "bf16").memory().formula_bytes(1), 2 * 4 * 8 * 16 * 2);
  EXPECT_EQ(open_model("gqa", "bf16").memory().formula_bytes(1), 2 * 4 * 2 * 16 * 2);
  EXPECT_EQ(open_model("mqa", "bf16").memory().formula_bytes(1), 2 * 4 * 1 * 16 * 2);
  EXPECT_EQ(open_model("mla", "bf16").memory().formula_bytes(1), 4 * (48 + 16) * 2);
  EXPECT_EQ(open_model("mfa", "bf16").memory().formula_bytes(1), 2 * 4 * 32 * 2);
  EXPECT_EQ(open_model("mfa_kr", "bf16").memory().formula_bytes(1), 4 * 32 * 2);
  EXPECT_EQ(open_model("deepseek", "bf16").memory().formula_bytes(1), 4 * (48 + 16) * 2);
  EXPECT_EQ(open_model("matmulfree").memory().formula_bytes(1'000'000), 4 * 128 * 4);  // a state, whatever was read
}

TEST(LanguageModel, ReportsWhatTheMemoryResourceGave) {
  Index held = 0;
  const heed::MemoryResource counting{.context = &held,
                                      .allocate =
                                          [](void* count, std::size_t bytes, std::size_t alignment) {
                                            *static_cast<Index*>(count) += Index(bytes);
                                            return heed::default_memory().allocate(nullptr, bytes, alignment);
                                          },
                                      .deallocate =
                                          [](void* count, void* block, std::size_t bytes, std::size_t alignment) {
                                            *static_cast<Index*>(count) -= Index(bytes);
                                            heed::default_memory().deallocate(nullptr, block, bytes, alignment);
                                          }};
  {
    ModelOptions options = default_options("bf16");
    options.capacity = 3;
    options.memory = counting;
    LanguageModel model = load(small_file().bytes(), options);
    EXPECT_EQ(model.memory().bytes().allocated, held);
    std::ignore = model.forward(text_of(9));
    EXPECT_EQ(model.memory().bytes().allocated, held);
  }
  EXPECT_EQ(held, 0);
}

TEST(LanguageModel, AnUntiedHeadIsAnotherMatrix) {
  ModelFile file = small_file();
  file.add("lm_head.weight", {256, 10});
  file.tensors["lm_head.weight"].second = file.tensors["model.embed_tokens.weight"].second;
  file.config["tie_word_embeddings"] = false;
  LanguageModel untied = load(file.bytes()), tied = load(small_file().bytes());
  EXPECT_EQ(untied.forward(text_of(4)), tied.forward(text_of(4)));
  EXPECT_EQ(untied.parameters(), tied.parameters() + 2560);
}

}  // namespace
}  // namespace heed_test::sequence_test
