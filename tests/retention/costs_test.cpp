/// \file
/// What rules cost, counted by a cache over long sequences, against the closed forms of the papers.
#include "retention/tracked_cache.hpp"

namespace heed_test::costs_test {
namespace {

using OneNumber = heed::KvCache<heed::Mqa, heed::F32>;

OneNumber make(const heed::AnyRule& rule) {
  return heed::value_or_throw(OneNumber::create({.num_heads = 1, .head_dim = 1, .scale = 1}, {}, rule));
}
/// One token; the number of keys it saw.
Index decode(OneNumber& cache, std::int32_t id) {
  const float zero[] = {0};
  auto step = cache.begin(std::span(&id, 1));
  EXPECT_TRUE(step->write(0, zero, zero).ok());
  EXPECT_TRUE(step->commit().ok());
  return cache.retention().last_seen;
}

struct Cost {
  Index attended = 0;  ///< keys, over all tokens
  Index peak = 0;      ///< the most one token saw
};
template <class Id>
Cost cost(OneNumber& cache, Index tokens, const Id& id) {
  Cost cost;
  for (Index t = 0; t < tokens; ++t) {
    const Index seen = decode(cache, id(t));
    cost.attended += seen;
    cost.peak = std::max(cost.peak, seen);
  }
  return cost;
}
std::int32_t no_id(Index) { return 0; }

TEST(Cost, Full) {
  OneNumber cache = make(heed::Causal{});
  const Cost full = cost(cache, 1000, no_id);
  EXPECT_EQ(full.attended, 1000 * 1001 / 2);
  EXPECT_EQ(full.peak, 1000);
  // "A vanilla cache of N tokens counts N / 2": its mean over the run, and half a token.
  EXPECT_DOUBLE_EQ(cache.retention().mean_kept(), 500.5);
  EXPECT_DOUBLE_EQ(cache.retention().last_row_ratio(), 1);
  EXPECT_DOUBLE_EQ(cache.retention().call_ratio(), 1);
}

TEST(Cost, Window) {
  OneNumber cache = make(heed::SlidingWindow{100});
  const Cost window = cost(cache, 1000, no_id);
  EXPECT_EQ(window.attended, 100 * 1000 - 100 * 99 / 2);
  EXPECT_EQ(window.peak, 100);
  EXPECT_EQ(cache.kept(), 99) << "the next query brings its own key";
  EXPECT_DOUBLE_EQ(cache.retention().last_row_ratio(), 0.1);
}

/// StreamingLLM stores 4 + 796 = 800 keys in its code's form, and a query sees one more.
TEST(Cost, Sinks) {
  OneNumber cache = make(heed::SinkWindow{4, 796, heed::SinkForm::evict_after_step});
  EXPECT_EQ(cost(cache, 2000, no_id).peak, 801);
  EXPECT_EQ(cache.kept(), 800);
  OneNumber masked = make(heed::SinkWindow{4, 796});
  EXPECT_EQ(cost(masked, 2000, no_id).peak, 800);
}

/// K segments of g tokens.
TEST(Cost, Anchors) {
  for (const auto& [segments, length] : {std::pair<Index, Index>{3, 6}, {20, 50}, {7, 1}}) {
    OneNumber cache = make(heed::Anchors{{1}});
    Index most = 0, attended = 0;
    for (Index t = 0; t < segments * length; ++t) {
      attended += decode(cache, (t + 1) % length == 0 ? 1 : 0);
      most = std::max(most, cache.kept());
    }
    EXPECT_EQ(attended, (length - 1) * segments * (segments - 1) / 2 + segments * length * (length + 1) / 2);
    EXPECT_EQ(cache.kept(), segments);
    // The formula's K + g - 1 counts the step of the last anchor; after it the segment is gone.
    EXPECT_EQ(most, std::max(segments, segments + length - 2));
  }
}

/// Every tenth token a separator: initial + window + those between.
TEST(Cost, SeparatorMask) {
  OneNumber cache = make(heed::Separators{.initial = 3, .window = 64, .ids = {1}});
  const auto id = [](Index t) { return t % 10 == 9 ? 1 : 0; };
  Index attended = 0;
  for (Index t = 0; t < 1000; ++t) {
    Index between = 0;
    for (Index j = 3; j <= t - 64; ++j) between += id(j) == 1;
    attended += std::min<Index>(t + 1, std::min<Index>(3, std::max<Index>(0, t - 63)) + 64 + between);
  }
  EXPECT_EQ(cost(cache, 1000, id).attended, attended);
  EXPECT_EQ(cache.retention().last_seen, 3 + 64 + 93);
  EXPECT_DOUBLE_EQ(cache.retention().last_row_ratio(), 0.160);
}

/// The paper's r.KV: the mean number of stored keys is (initial + separators + local + capacity) / 2 once the separators
/// are full.
struct StreamSize {
  Index initial, separators, local, capacity;
  double mean;
};
class Stream : public testing::TestWithParam<StreamSize> {};

TEST_P(Stream, MeanStoredIsThePublishedNumber) {
  const StreamSize size = GetParam();
  OneNumber cache = make(heed::SeparatorStream{.initial = size.initial,
                                               .separators = size.separators,
                                               .local = size.local,
                                               .capacity = size.capacity,
                                               .ids = {1}});
  const auto id = [](Index t) { return t % 5 == 4 ? 1 : 0; };
  const Index shortest = size.initial + size.separators + size.local, period = size.capacity - shortest + 1;
  // Until the block is full, and then to the next compression.
  while (cache.seen() < 8 * size.capacity || cache.kept() != shortest) decode(cache, id(cache.seen()));
  const heed::RetentionCounters before = cache.retention();
  const Cost rounds = cost(cache, 4 * period, id);
  const heed::RetentionCounters after = cache.retention();
  EXPECT_DOUBLE_EQ((after.kept_sum - before.kept_sum) / double(after.calls - before.calls), size.mean);
  EXPECT_DOUBLE_EQ(size.mean, double(shortest + size.capacity) / 2);
  // A query sees one key more than was stored, at most capacity + 1.
  EXPECT_DOUBLE_EQ(double(rounds.attended) / double(4 * period), size.mean + 1);
  EXPECT_EQ(rounds.peak, size.capacity + 1);
  EXPECT_EQ(cache.kept(), shortest);
}
INSTANTIATE_TEST_SUITE_P(Published, Stream,
                         testing::Values(StreamSize{4, 64, 256, 800, 562}, StreamSize{4, 32, 224, 324, 292},
                                         StreamSize{4, 48, 224, 324, 300}, StreamSize{4, 64, 224, 324, 308},
                                         StreamSize{4, 64, 512, 800, 690}, StreamSize{4, 64, 720, 1024, 906},
                                         StreamSize{4, 64, 320, 516, 452}),
                         [](const auto& size) {
                           const StreamSize& s = size.param;
                           return "s" + std::to_string(s.separators) + "w" + std::to_string(s.local) + "c" +
                                  std::to_string(s.capacity);
                         });

/// SepCache holds one token less: 449.5 with 4, 128, 256, 512.
TEST(Cost, SepCache) {
  OneNumber cache = make(heed::SeparatorStream{
      .initial = 4, .separators = 128, .local = 256, .capacity = 512, .ids = {1}, .form = heed::StreamForm::sep_cache});
  const auto id = [](Index t) { return t % 3 == 2 ? 1 : 0; };
  while (cache.seen() < 1000 || cache.kept() != 4 + 128 + 256) decode(cache, id(cache.seen()));
  const heed::RetentionCounters before = cache.retention();
  const Index period = 512 - (4 + 128 + 256);
  const Cost rounds = cost(cache, 4 * period, id);
  const heed::RetentionCounters after = cache.retention();
  EXPECT_DOUBLE_EQ((after.kept_sum - before.kept_sum) / double(after.calls - before.calls), 449.5);
  EXPECT_EQ(rounds.peak, 511);
  // SepCache's own r.KV: kept over seen, summed over calls.
  EXPECT_DOUBLE_EQ(after.call_ratio(), after.kept_sum / (double(after.seen) * double(after.seen + 1) / 2));
}

}  // namespace
}  // namespace heed_test::costs_test
