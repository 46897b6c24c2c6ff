// The MTP module: the embedding comes first, position 0 may be zeroed, rows have the same bits alone and together, values
// meet float64, and wrong tensors are named. tests/golden runs it on reference vectors.
#include <heed/exec/thread_pool.hpp>
#include <heed/layer/mtp.hpp>

#include <algorithm>
#include <functional>
#include <string>

#include "oracle/mtp.hpp"
#include "policy/worst.hpp"
#include "speculative/subjects.hpp"

namespace heed_test::mtp_test {
namespace {

using heed::MtpModule;
using heed::MtpOptions;
using heed::MtpTensors;
using heed::StatusCode;
using heed::Tensor;

constexpr Index width = 40, slots = 9;

/// Random tensors and rows, and the oracle of the same numbers.
struct Numbers {
  explicit Numbers(std::uint64_t seed = 1) {
    oracle::Random random(seed);
    enorm = random.gaussians(width);
    hnorm = random.gaussians(width);
    eh_proj = random.gaussians(width * 2 * width, 0.15);
    head_norm = random.gaussians(width);
    embeddings = random.gaussians(slots * width, 0.3);
    hiddens = random.gaussians(slots * width, 3);
    for (Index i = 0; i < slots; ++i) positions.push_back(i);
  }
  [[nodiscard]] MtpTensors tensors() const {
    return {{enorm, 1, width}, {hnorm, 1, width}, {eh_proj, width, 2 * width}, {head_norm, 1, width}};
  }
  [[nodiscard]] MtpModule module(bool zero_first = false) const {
    return heed::value_or_throw(
        MtpModule::create({.hidden_size = width, .rms_norm_eps = 1e-5, .zero_first_embedding = zero_first}, tensors()));
  }
  [[nodiscard]] oracle::Mtp exact(bool zero_first = false) const {
    oracle::Mtp made;
    made.eps = 1e-5;
    made.zero_first_embedding = zero_first;
    made.enorm = oracle::doubles(enorm);
    made.hnorm = oracle::doubles(hnorm);
    made.eh_proj = oracle::doubles(eh_proj);
    made.shared_head_norm = oracle::doubles(head_norm);
    return made;
  }

  std::vector<float> enorm, hnorm, eh_proj, head_norm, embeddings, hiddens;
  std::vector<Index> positions;
};

template <class E>
std::vector<float> combine(const MtpModule& module, std::span<const float> embeddings, std::span<const float> hiddens,
                           std::span<const Index> positions, E& executor) {
  std::vector<float> x(embeddings.size(), nan);
  heed::Workspace workspace;
  const heed::Status status = module.combine<Backend>(embeddings, hiddens, positions, x, workspace, executor);
  EXPECT_TRUE(status.ok()) << status.message();
  return x;
}
std::vector<float> combine(const MtpModule& module, const Numbers& n) {
  heed::SerialExecutor executor;
  return combine(module, n.embeddings, n.hiddens, n.positions, executor);
}

std::span<const float> row(const std::vector<float>& rows, Index i) {
  return std::span(rows).subspan(std::size_t(i * width), width);
}

TEST(MtpModule, CombinesAsTheFormulaSays) {
  for (const bool zero_first : {false, true}) {
    const Numbers n;
    const auto want =
        n.exact(zero_first).combine(oracle::doubles(n.embeddings), oracle::doubles(n.hiddens), n.positions);
    EXPECT_LE(worst(combine(n.module(zero_first), n), want), 1);
  }
}

/// The released eh_proj meets [embedding ; hidden]; the paper writes it the other way round.
TEST(MtpModule, TakesTheEmbeddingFirst) {
  const Numbers n;
  Numbers swapped = n;
  for (Index out = 0; out < width; ++out) {
    const auto first = swapped.eh_proj.begin() + out * 2 * width;
    std::rotate(first, first + width, first + 2 * width);
  }
  const auto want = n.exact().combine(oracle::doubles(n.embeddings), oracle::doubles(n.hiddens), n.positions);
  EXPECT_LE(worst(combine(n.module(), n), want), 1);
  const std::vector<float> other = combine(swapped.module(), n);
  EXPECT_GT(worst(other, want), 1000);
  // Only embeddings meet the first columns.
  Numbers first_only = n;
  for (Index out = 0; out < width; ++out) {
    std::fill_n(first_only.eh_proj.begin() + out * 2 * width + width, width, 0.0f);
  }
  Numbers other_hiddens = first_only;
  for (float& x : other_hiddens.hiddens) x = -2 * x + 1;
  EXPECT_EQ(combine(first_only.module(), first_only), combine(first_only.module(), other_hiddens));
}

TEST(MtpModule, ZeroesTheEmbeddingOfPositionZeroOnly) {
  Numbers n;
  n.positions = {3, 0, 1, 2, 0, 5, 6, 7, 1000000};
  const std::vector<float> plain = combine(n.module(false), n), zeroed = combine(n.module(true), n);
  Numbers zeros = n;
  for (const Index slot : {1, 4}) std::fill_n(zeros.embeddings.begin() + slot * width, width, 0.0f);
  const std::vector<float> want = combine(n.module(false), zeros);
  for (Index slot = 0; slot < slots; ++slot) {
    const bool first = slot == 1 || slot == 4;
    EXPECT_EQ(std::ranges::equal(row(zeroed, slot), row(plain, slot)), !first) << slot;
    EXPECT_TRUE(std::ranges::equal(row(zeroed, slot), row(want, slot))) << slot;
  }
}

/// What stands in for the embedding of position 0 may be anything.
TEST(MtpModule, NeverReadsTheEmbeddingThatItZeroes) {
  Numbers n;
  const std::vector<float> want = combine(n.module(true), n);
  std::fill_n(n.embeddings.begin(), width, nan);
  EXPECT_EQ(combine(n.module(true), n), want);
}

TEST(MtpModule, RowsHaveTheSameBitsAloneAndTogether) {
  const Numbers n;
  const auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  for (const bool zero_first : {false, true}) {
    const MtpModule module = n.module(zero_first);
    const std::vector<float> together = combine(module, n);
    EXPECT_EQ(combine(module, n.embeddings, n.hiddens, n.positions, *pool), together);
    heed::SerialExecutor executor;
    for (Index slot = 0; slot < slots; ++slot) {
      const Index position = n.positions[std::size_t(slot)];
      const std::vector<float> alone =
          combine(module, row(n.embeddings, slot), row(n.hiddens, slot), {&position, 1}, executor);
      EXPECT_TRUE(std::ranges::equal(alone, row(together, slot))) << slot;
    }
  }
}

TEST(MtpModule, FinishesWithTheHeadsNorm) {
  const Numbers n;
  const MtpModule module = n.module();
  std::vector<float> normed(n.hiddens.size(), nan), in_place = n.hiddens;
  ASSERT_TRUE(module.finish(n.hiddens, normed).ok());
  ASSERT_TRUE(module.finish(in_place, in_place).ok());
  EXPECT_EQ(in_place, normed);
  const auto want = oracle::rms_norm(oracle::doubles(n.hiddens), oracle::doubles(n.head_norm), 1e-5);
  EXPECT_LE(worst(normed, want), 1);
  for (Index slot = 0; slot < slots; ++slot) {
    std::vector<float> alone(std::size_t{width});
    ASSERT_TRUE(module.finish(row(n.hiddens, slot), alone).ok());
    EXPECT_TRUE(std::ranges::equal(alone, row(normed, slot)));
  }
}

TEST(MtpModule, OfNoSlotsDoesNothing) {
  const MtpModule module = Numbers().module();
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  EXPECT_TRUE(module.combine<Backend>({}, {}, {}, {}, workspace, executor).ok());
  EXPECT_TRUE(module.finish({}, {}).ok());
}

TEST(MtpModule, NamesTheTensorThatHasAnotherShape) {
  const Numbers n;
  const auto refused = [&](const std::function<void(MtpTensors&)>& change) {
    MtpTensors tensors = n.tensors();
    change(tensors);
    const heed::Status status = MtpModule::create({.hidden_size = width}, tensors).status();
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    return status.message();
  };
  EXPECT_EQ(refused([](MtpTensors& t) { t.enorm.cols = 39; }), "enorm has shape [1, 39], must be [1, 40]");
  EXPECT_EQ(refused([](MtpTensors& t) { t.hnorm = {}; }), "hnorm has shape [0, 0], must be [1, 40]");
  EXPECT_EQ(refused([](MtpTensors& t) { t.shared_head_norm.rows = 2; }),
            "shared_head.norm has shape [2, 40], must be [1, 40]");
  EXPECT_EQ(refused([](MtpTensors& t) { t.eh_proj.cols = 40; }), "eh_proj has shape [40, 40], must be [40, 80]");
  EXPECT_EQ(refused([](MtpTensors& t) { t.eh_proj.data = t.eh_proj.data.first(7); }),
            "eh_proj has 7 numbers, must have 3200");
}

TEST(MtpModule, NamesTheOptionThatIsWrong) {
  const Numbers n;
  const auto refused = [&](const MtpOptions& options) {
    const heed::Status status = MtpModule::create(options, n.tensors()).status();
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    return status.message();
  };
  EXPECT_EQ(refused({}), "hidden_size is 0, must be in 1 .. 16777216");
  EXPECT_NE(refused({.hidden_size = width, .rms_norm_eps = -1}).find("enorm: eps is -1"), std::string::npos);
}

TEST(MtpModule, NamesTheRowsThatHaveAnotherSize) {
  const Numbers n;
  const MtpModule module = n.module();
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const auto refused = [&](std::size_t embeddings, std::size_t hiddens, std::size_t out) {
    std::vector<float> x(out, nan);
    const heed::Status status =
        module.combine<Backend>(std::span(n.embeddings).first(embeddings), std::span(n.hiddens).first(hiddens),
                                std::span(n.positions).first(2), x, workspace, executor);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    for (const float number : x) EXPECT_TRUE(std::isnan(number));
    return status.message();
  };
  EXPECT_EQ(refused(79, 80, 80), "embeddings has 79 numbers, must have 80 for 2 tokens");
  EXPECT_EQ(refused(80, 120, 80), "hiddens has 120 numbers, must have 80 for 2 tokens");
  EXPECT_EQ(refused(80, 80, 40), "x has 40 numbers, must have 80 for 2 tokens");
  std::vector<float> normed(80);
  EXPECT_EQ(module.finish(std::span(n.hiddens).first(81), normed).message(),
            "x has 81 numbers, must have 80 for 2 tokens");
  EXPECT_EQ(module.finish(std::span(n.hiddens).first(40), normed).message(),
            "normed has 80 numbers, must have 40 for 1 token");
}

TEST(MtpModule, NeedsMemoryForItsRows) {
  const Numbers n;
  std::vector<std::byte> memory(64);
  heed::Workspace workspace{std::span<std::byte>(memory)};
  heed::SerialExecutor executor;
  std::vector<float> x(n.embeddings.size(), nan);
  const heed::Status status = n.module().combine<Backend>(n.embeddings, n.hiddens, n.positions, x, workspace, executor);
  EXPECT_EQ(status.code(), StatusCode::out_of_memory);
  for (const float number : x) EXPECT_TRUE(std::isnan(number));
}

}  // namespace
}  // namespace heed_test::mtp_test
