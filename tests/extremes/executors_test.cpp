// Numbers of workers and tasks at the ends of 64 bits, for the executors and for everything that asks one.
#include "extremes/numbers.hpp"

#include <vector>

namespace heed_test::executors_test {
namespace {

using heed::Scalar;

/// Counts the tasks 0 ... n - 1, each of which must come once.
template <class E>
Index tasks_of(E& executor, Index n) {
  std::atomic<Index> count = 0, sum = 0;
  executor.parallel_for(n, [&](Index task, Index worker) {
    EXPECT_TRUE(worker >= 0 && worker < executor.workers()) << worker;
    ++count;
    sum += task;
  });
  EXPECT_EQ(sum, count * (count - 1) / 2);
  return count;
}

TEST(Extremes, ThreadPool) {
  for_extremes([](Index n) {
    auto pool = heed::ThreadPool::create(n);
    EXPECT_EQ(pool.ok(), n == 1);
    if (!pool.ok()) return expect_refused(pool, n);
    EXPECT_EQ((*pool)->workers(), 1);
  });
  for (const Index workers : {1, 3}) {
    const auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
    heed::SerialExecutor serial;
    for (const Index tasks : {smallest, -largest, Index{-1}, Index{0}, Index{1}, Index{1000}}) {
      EXPECT_EQ(tasks_of(*pool, tasks), std::max<Index>(tasks, 0));
      EXPECT_EQ(tasks_of(serial, tasks), std::max<Index>(tasks, 0));
    }
  }
}

#if defined(_OPENMP)
TEST(Extremes, OpenMp) {
  for_extremes([](Index n) {
    heed::OpenMpExecutor executor(n);
    EXPECT_EQ(executor.workers(), std::clamp<Index>(n, 1, 4096));
    for (const Index tasks : {smallest, Index{-1}, Index{0}, Index{1}, Index{3}}) {
      EXPECT_EQ(tasks_of(executor, tasks), std::max<Index>(tasks, 0));
    }
  });
}
#endif

/// Says that it has so many workers. All tasks run in the last one.
struct Says {
  Index count;
  Index workers() const { return count; }
  void parallel_for(Index tasks, heed::FunctionRef<void(Index, Index)> body) const {
    for (Index task = 0; task < tasks; ++task) body(task, count - 1);
  }
};

/// A model of one layer of width 1.
heed::Result<heed::Tensor> ones(const char*) {
  static const std::vector<float> one(2, 0.5f);
  return heed::Tensor{std::span(one).first(1), 1, 1};
}
const std::vector<float> two(2, 0.5f);

heed::BitLinear<> linear(Index rows) {
  return heed::value_or_throw(heed::BitLinear<>::create("w", {std::span(two).first(std::size_t(rows)), rows, 1}, rows,
                                                        1, {std::span(two).first(1), 1, 1}));
}

TEST(Extremes, ExecutorsOfLayers) {
  const heed::BitLinear<> one = linear(1);
  const auto glu = heed::value_or_throw(heed::BitGlu<>::create(linear(2), linear(1)));
  const auto mixer = heed::value_or_throw(
      heed::Mlgru<>::create({linear(1), linear(1), linear(1), linear(1)}, *ones(""), std::span(two).first(1)));
  auto state = heed::value_or_throw(heed::RecurrentState::create({.layers = 1, .width = 1}));
  const auto source = [](const char* name) -> heed::Result<heed::Tensor> {
    if (std::string(name).find("gate_proj.weight") != std::string::npos) return heed::Tensor{two, 2, 1};
    return ones(name);
  };
  const auto model = heed::value_or_throw(heed::MatMulFreeLm<>::from_floats(
      {.vocab_size = 1, .hidden_size = 1, .num_hidden_layers = 1, .intermediate_size = 1}, source));
  const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 1, .scale = 1};
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(two.data()), 4, 0, 4};
  const heed::StridedSource<heed::F32> keys(2, stream, stream);
  for_extremes([&](Index workers) {
    for (const Index tokens : {1, 5}) {
      Says executor{workers};
      const bool right = workers >= 1 && workers <= 65536;
      const std::vector<float> x(std::size_t(tokens), 1.0f);
      std::vector<float> y(std::size_t(tokens), 9.0f);
      heed::Workspace workspace;
      const auto expect = [&](const heed::Status& status) {
        EXPECT_EQ(status.ok(), right) << status.message();
        if (!right) {
          EXPECT_NE(status.message().find("workers is " + std::to_string(workers)), std::string::npos)
              << status.message();
          EXPECT_EQ(y, std::vector<float>(std::size_t(tokens), 9.0f));
        }
        y.assign(std::size_t(tokens), 9.0f);
      };
      expect(heed::bit_linear<Scalar>(one, x, y, workspace, executor));
      expect(glu.forward<Scalar>(x, y, workspace, executor));
      auto step = heed::value_or_throw(state.begin(heed::NumTokens(tokens)));
      expect(mixer.forward<Scalar>(x, heed::value_or_throw(step.layer(0)), y, workspace, executor));
      expect(model.forward<Scalar>(std::vector<std::int32_t>(std::size_t(tokens)), step, y, workspace, executor));
      step.abort();
      expect(heed::attend<Scalar>(policy, x, keys, heed::Unmasked{}, y, workspace, executor));
    }
    for (const Index tokens : extremes) {
      EXPECT_GE(mixer.scratch_bytes<Scalar>(tokens, workers), 0);
      EXPECT_GE(glu.scratch_bytes<Scalar>(tokens, workers), 0);
      if (std::min(tokens, workers) < 0 || std::max(tokens, workers) > largest / 8) {
        EXPECT_EQ(mixer.scratch_bytes<Scalar>(tokens, workers), heed::count_limit);
        EXPECT_EQ(glu.scratch_bytes<Scalar>(tokens, workers), heed::count_limit);
      }
    }
  });
}

}  // namespace
}  // namespace heed_test::executors_test
