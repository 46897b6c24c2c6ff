// The merge stack gives the bits of the tree it stands for, whatever subset of chunks a row sees.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <vector>

#include <heed/kernel/merge_stack.hpp>

#include "oracle/random.hpp"

namespace heed_test::merge_stack_test {
namespace {

using heed::Index;
using heed::Scalar;
using heed::SoftmaxState;
constexpr Index width = 16;

struct State {
  SoftmaxState numbers;
  std::vector<float> out;

  friend bool operator==(const State& a, const State& b) {
    return std::memcmp(&a.numbers, &b.numbers, sizeof a.numbers) == 0 &&
           std::memcmp(a.out.data(), b.out.data(), a.out.size() * sizeof(float)) == 0;
  }
};

/// Chunks by index; a chunk that is not seen is absent.
using Chunks = std::vector<std::optional<State>>;

Chunks random_chunks(oracle::Random& random, Index count, double seen) {
  Chunks chunks;
  for (Index i = 0; i < count; ++i) {
    chunks.emplace_back();
    if (random.uniform() >= seen) continue;
    chunks.back() = State{{float(2 * random.gaussian()), float(1 + 255 * random.uniform())}, random.gaussians(width)};
  }
  return chunks;
}

/// Node (level, i) covers chunks [i 2^level, (i + 1) 2^level); an empty one is an identity.
std::optional<State> node(const Chunks& chunks, int level, Index i) {
  if (i << level >= Index(chunks.size())) return {};
  if (level == 0) return chunks[std::size_t(i)];
  auto left = node(chunks, level - 1, 2 * i), right = node(chunks, level - 1, 2 * i + 1);
  if (!left) return right;
  if (!right) return left;
  const heed::MergeWeights w = heed::merge_weights(left->numbers, right->numbers);
  State merged{w.state, std::vector<float>(width)};
  Scalar::merge(w.left, left->out.data(), w.right, right->out.data(), width, merged.out.data());
  return merged;
}
std::optional<State> tree(const Chunks& chunks) { return node(chunks, 40, 0); }

/// The stack, used as the kernel uses it: a row that sees nothing parks its output in a free place.
std::optional<State> stacked(const Chunks& chunks, Index first = 0, Index last = -1) {
  last = last < 0 ? Index(chunks.size()) : last;
  while (first < last && !chunks[std::size_t(first)]) ++first;  // the run may start anywhere, and its places suffice
  const int places = heed::detail::merge_places(last - first);
  std::vector<float> memory(std::size_t(places * width), 0.0f);
  heed::detail::MergeStack stack;
  stack.reset();
  for (Index c = first; c < last; ++c) {
    const std::optional<State>& chunk = chunks[std::size_t(c)];
    if (!chunk) {
      EXPECT_LT(stack.free_place(), places);
      std::fill_n(memory.begin() + stack.free_place() * width, width, 1e30f);
      continue;
    }
    heed::RowTarget target;
    target.normalise = 1;
    stack.push<Scalar>(c, chunk->numbers, memory.data(), width, width, target);
    EXPECT_TRUE(target.out >= memory.data() && target.out < memory.data() + places * width);
    EXPECT_LE(target.merges, heed::max_merges);
    for (int m = 0; m < target.merges; ++m) EXPECT_NE(target.merge[m].left, target.out);
    std::copy(chunk->out.begin(), chunk->out.end(), target.out);
    Scalar::finish(&target, 1, width);
  }
  if (stack.empty()) return {};
  const float* out = nullptr;
  const SoftmaxState numbers = stack.fold<Scalar>(memory.data(), width, width, &out);
  return State{numbers, {out, out + width}};
}

TEST(MergeStack, IsTheTree) {
  oracle::Random random(1);
  for (int i = 0; i < 400; ++i) {
    const Chunks chunks = random_chunks(random, random.below(70), i % 4 == 0 ? 1 : random.uniform());
    ASSERT_TRUE(stacked(chunks) == tree(chunks)) << chunks.size();
  }
}

/// Every run of up to 70 chunks from any of 70 numbers fits its places; a row that sees nothing next still has a free one.
TEST(MergeStack, SlotsSufficeFromAnyNumber) {
  oracle::Random random(7);
  for (const double seen : {1.0, 0.8, 0.3}) {
    const Chunks chunks = random_chunks(random, 140, seen);
    for (Index first = 0; first < 70; ++first) {
      for (Index last = first; last <= first + 70; ++last) {
        Chunks run(std::size_t(first), std::nullopt);
        run.insert(run.end(), chunks.begin() + first, chunks.begin() + last);
        ASSERT_TRUE(stacked(run, first, last) == tree(run)) << first << " to " << last;
      }
    }
  }
}

TEST(MergeStack, ManyChunks) {
  oracle::Random random(2);
  for (const double seen : {1.0, 0.5, 0.01}) {
    const Chunks chunks = random_chunks(random, 4100, seen);
    ASSERT_TRUE(stacked(chunks) == tree(chunks)) << seen;
  }
}

/// Chunks of two lists: the second one begins anywhere beyond a number that is a multiple of every node it has. One state
/// of the first list waits while the second one arrives.
TEST(MergeStack, TwoListsMeetAtTheRoot) {
  oracle::Random random(6);
  for (int i = 0; i < 200; ++i) {
    const Chunks far = random_chunks(random, random.below(20), 0.8),
                 near = random_chunks(random, random.below(40), 0.8);
    const Index beyond = Index{1} << 40, start = i % 2 == 0 ? random.below(300) : 15000 + random.below(3000);
    const int places =
        std::max(heed::detail::merge_places(Index(far.size())), 1 + heed::detail::merge_places(Index(near.size())));
    std::vector<float> memory(std::size_t(places * width));
    heed::detail::MergeStack stack;
    stack.reset();
    const auto push = [&](Index index, const std::optional<State>& chunk) {
      if (!chunk) return;
      heed::RowTarget target;
      target.normalise = 1;
      stack.push<Scalar>(index, chunk->numbers, memory.data(), width, width, target);
      ASSERT_LT(target.out, memory.data() + places * width);
      std::copy(chunk->out.begin(), chunk->out.end(), target.out);
      Scalar::finish(&target, 1, width);
    };
    Chunks shifted(std::size_t(start), std::nullopt);
    shifted.insert(shifted.end(), near.begin(), near.end());
    for (std::size_t c = 0; c < far.size(); ++c) push(Index(c), far[c]);
    for (std::size_t c = 0; c < near.size(); ++c) push(beyond + start + Index(c), near[c]);
    const auto want = node({tree(far), tree(shifted)}, 1, 0);
    ASSERT_EQ(stack.empty(), !want);
    if (!want) continue;
    const float* out = nullptr;
    const SoftmaxState numbers = stack.fold<Scalar>(memory.data(), width, width, &out);
    ASSERT_TRUE((State{numbers, {out, out + width}} == *want)) << far.size() << " " << near.size() << " from " << start;
  }
}

/// Later chunks that are not seen, and earlier ones, change nothing: trees of all lengths agree.
TEST(MergeStack, UnseenChunksAreIdentities) {
  oracle::Random random(3);
  for (int i = 0; i < 100; ++i) {
    Chunks chunks = random_chunks(random, 1 + random.below(40), 0.8);
    const auto want = stacked(chunks);
    chunks.resize(chunks.size() + std::size_t(random.below(100)));
    ASSERT_TRUE(stacked(chunks) == want);
  }
}

/// Aligned runs of chunks, made by different threads, are nodes: pushing them again by their number is the whole.
TEST(MergeStack, PartsAreNodes) {
  oracle::Random random(4);
  for (int i = 0; i < 200; ++i) {
    const Chunks chunks = random_chunks(random, 1 + random.below(70), random.uniform());
    const Index span = Index{1} << random.below(5);
    Chunks parts;
    for (Index first = 0; first < Index(chunks.size()); first += span) {
      parts.push_back(stacked(chunks, first, std::min(first + span, Index(chunks.size()))));
    }
    ASSERT_TRUE(stacked(parts) == tree(chunks)) << chunks.size() << " span " << span;
  }
}

TEST(MergeStack, SlotsAreLogarithmic) {
  EXPECT_EQ(heed::detail::merge_places(0), heed::detail::merge_places(1));
  EXPECT_LE(heed::detail::merge_places(1), 1);
  EXPECT_LE(heed::detail::merge_places(1024), 11);
  EXPECT_LE(heed::detail::merge_places(Index{1} << 32), heed::max_merges + 2);
}

TEST(MergeStack, ResetForgets) {
  oracle::Random random(5);
  std::vector<float> memory(8 * width);
  heed::detail::MergeStack stack;
  stack.reset();
  for (int repeat = 0; repeat < 2; ++repeat) {
    EXPECT_TRUE(stack.empty());
    heed::RowTarget target;
    stack.push<Scalar>(0, {1, 1}, memory.data(), width, width, target);
    EXPECT_EQ(target.merges, 0);
    EXPECT_FALSE(stack.empty());
    stack.reset();
  }
}

}  // namespace
}  // namespace heed_test::merge_stack_test
