// Trained MTP modules give what PyTorch gave for them, logits of their slots and drafts: the one made for the MLA model, and
// the DeepSeek-style model's own.
#include <gtest/gtest.h>

#include <algorithm>

#include "demo/models.hpp"
#include "model/mtp_drafter.hpp"

namespace heed_test::mtp_test {
namespace {

using heed::Index;
using heed::Token;

std::vector<Token> tokens_of(const Safetensors& file, const std::string& tensor) {
  const std::vector<std::int64_t> numbers = file.get<std::int64_t>(tensor);
  return {numbers.begin(), numbers.end()};
}

/// A model with its module, after the prompt.
struct Prompted {
  LanguageModel model;
  Safetensors expected;
  std::vector<Token> prompt;
  heed_examples::Decoder& decoder;
  Matrix logits;

  explicit Prompted(const std::string& mechanism)
      : model(open_model(mechanism)),
        expected(Safetensors::open(data((mechanism == "mla" ? "mla_mtp" : mechanism) + ".expected.safetensors"))),
        prompt(tokens_of(expected, "prompt")),
        decoder(dynamic_cast<heed_examples::Decoder&>(model.network())) {
    if (mechanism == "mla") attach_mtp(decoder, data("mla_mtp.safetensors"), default_options());
    const std::vector<std::uint8_t> bytes(prompt.begin(), prompt.end());
    logits = model.forward(bytes);
    decoder.drafter()->extend(prompt);
  }
};

class TrainedMtp : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, TrainedMtp, testing::Values("mla", "deepseek"),
                         [](const auto& parameter) { return parameter.param; });

TEST_P(TrainedMtp, SlotsHaveTheLogitsOfPyTorch) {
  Prompted p(GetParam());
  auto& head = dynamic_cast<heed_examples::MtpDrafter&>(*p.decoder.drafter()).head();
  const std::vector<float> want = p.expected.get<float>("mtp_logits");
  const Index slots = Index(p.prompt.size()) - 1;
  ASSERT_EQ(Index(want.size()), slots * 256);
  const Matrix hiddens = p.decoder.hidden().topRows(slots);
  const Matrix got = head.extend(hiddens, std::span(p.prompt).subspan(1));
  EXPECT_LT((got - Eigen::Map<const Matrix>(want.data(), slots, 256)).cwiseAbs().maxCoeff(), 1e-3f);
}

TEST_P(TrainedMtp, DraftsAreThoseOfPyTorch) {
  Prompted p(GetParam());
  const auto row = p.logits.row(p.logits.rows() - 1);
  const Token next = heed::value_or_throw(heed::greedy_token({row.data(), 256}));
  EXPECT_EQ(std::vector<Token>{next}, tokens_of(p.expected, "next"));
  const std::vector<Token> want = tokens_of(p.expected, "drafts");
  const auto drafts = p.decoder.drafter()->draft(next, Index(want.size()));
  EXPECT_EQ(std::vector<Token>(drafts.begin(), drafts.end()), want);
}

TEST(AttachedMtp, NeedsItsOwnModel) {
  LanguageModel other = open_model("mha");
  try {
    attach_mtp(dynamic_cast<heed_examples::Decoder&>(other.network()), data("mla_mtp.safetensors"), default_options());
    FAIL() << "accepted";
  } catch (const heed_examples::ModelError& error) {
    EXPECT_STREQ(error.what(),
                 "mla_mtp.safetensors: is a \"mla_mtp\" for a \"mha\", must be a \"mla_mtp\" for a \"mla\"");
  }
}

}  // namespace
}  // namespace heed_test::mtp_test
