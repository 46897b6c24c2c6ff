/// \file
/// Laws of every cache, over random shapes and histories.
#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"

namespace heed_test::laws_test {
namespace {

template <class Cache>
class CacheLaws : public testing::Test {
 protected:
  heed::Result<Cache> make(Index capacity, Index layers = 2) {
    return random_cache<Cache>(
        random,
        {.layers = layers, .capacity = capacity, .page_tokens = pick(random, 1, 9), .memory = memory.resource()});
  }
  CountingMemory memory;
  std::mt19937_64 random{2024};
};
TYPED_TEST_SUITE(CacheLaws, Caches);

/// Everything in one step and in random steps: the same bytes.
TYPED_TEST(CacheLaws, ChunkingDoesNotMatter) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    auto cache = this->make(pick(this->random, 0, 40), pick(this->random, 1, 4));
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    const Seeds tokens = new_tokens(this->random, pick(this->random, 1, 40));
    for (std::size_t done = 0; done < tokens.size();) {
      const auto count = std::size_t(pick(this->random, 0, Index(tokens.size() - done)));
      const auto from = tokens.begin() + std::ptrdiff_t(done);
      ASSERT_NO_FATAL_FAILURE(append(*cache, Seeds(from, from + std::ptrdiff_t(count))));
      done += count;
      ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, Seeds(tokens.begin(), tokens.begin() + std::ptrdiff_t(done))));
    }
  }
}

/// The step's view has its tokens, the cache's view does not until commit.
TYPED_TEST(CacheLaws, StepSeesItsTokensFirst) {
  for (int repeat = 0; repeat < 10; ++repeat) {
    auto cache = this->make(pick(this->random, 0, 8));
    const Seeds before = new_tokens(this->random, pick(this->random, 0, 5));
    const Seeds added = new_tokens(this->random, pick(this->random, 1, 9));
    ASSERT_NO_FATAL_FAILURE(append(*cache, before));
    Seeds all = before;
    all.insert(all.end(), added.begin(), added.end());
    auto step = cache->begin(ids(added));
    ASSERT_EQ(step->first_logical_position(), Index(before.size()));
    ASSERT_EQ(step->tokens(), Index(added.size()));
    ASSERT_NO_FATAL_FAILURE(write_all(*step, *cache, added));
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, before));
    for (Index layer = 0; layer < 2; ++layer) {
      ASSERT_NO_FATAL_FAILURE(expect_rows(step->keys(layer), *cache, layer, all));
    }
    ASSERT_TRUE(step->commit().ok());
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, all));
  }
}

TYPED_TEST(CacheLaws, AbortForgetsTheStep) {
  for (int repeat = 0; repeat < 10; ++repeat) {
    auto cache = this->make(4);
    const Seeds kept = new_tokens(this->random, pick(this->random, 0, 5));
    ASSERT_NO_FATAL_FAILURE(append(*cache, kept));
    ASSERT_TRUE(cache->reserve(20).ok());
    const auto before = cache->bytes();
    const Seeds dropped = new_tokens(this->random, pick(this->random, 1, 9));
    {
      auto step = cache->begin(ids(dropped));
      ASSERT_NO_FATAL_FAILURE(write_all(*step, *cache, dropped));
      if (repeat % 2 == 0) {
        step->abort();
        ASSERT_FALSE(step->open());
      }
    }  // or its end
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, kept));
    ASSERT_EQ(cache->bytes().live, before.live);
    ASSERT_EQ(cache->bytes().allocated, before.allocated);
    ASSERT_NO_FATAL_FAILURE(append(*cache, {1, 2}));
  }
}

/// truncate, then append = a cache that never saw the truncated tokens.
TYPED_TEST(CacheLaws, TruncateUndoesAppend) {
  for (int repeat = 0; repeat < 10; ++repeat) {
    auto cache = this->make(pick(this->random, 0, 30));
    Seeds tokens = new_tokens(this->random, pick(this->random, 0, 20));
    ASSERT_NO_FATAL_FAILURE(append(*cache, tokens));
    tokens.resize(std::size_t(pick(this->random, 0, Index(tokens.size()))));
    ASSERT_TRUE(cache->truncate(Index(tokens.size())).ok());
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, tokens));
    const Seeds others = new_tokens(this->random, pick(this->random, 0, 20));
    ASSERT_NO_FATAL_FAILURE(append(*cache, others));
    tokens.insert(tokens.end(), others.begin(), others.end());
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, tokens));
    ASSERT_TRUE(cache->clear().ok());
    ASSERT_NO_FATAL_FAILURE(expect_holds(*cache, {}));
  }
}

/// Random histories, with allocations that fail now and then, against a vector of tokens.
TYPED_TEST(CacheLaws, RandomWalk) {
  for (int repeat = 0; repeat < 6; ++repeat) {
    auto made = this->make(pick(this->random, 0, 8));
    ASSERT_TRUE(made.ok());
    TypeParam cache = *std::move(made);
    Seeds tokens;
    for (int move = 0; move < 60; ++move) {
      if (this->random() % 4 == 0) this->memory.failing_from = this->memory.allocations + pick(this->random, 0, 2);
      const Seeds added = new_tokens(this->random, pick(this->random, 0, 6));
      switch (this->random() % 8) {
        case 0: {
          const Index left = pick(this->random, 0, Index(tokens.size()));
          ASSERT_TRUE(cache.truncate(left).ok());
          tokens.resize(std::size_t(left));
          break;
        }
        case 1: {
          if (auto step = cache.begin(ids(added)); step.ok()) write_all(*step, cache, added);
          break;
        }
        case 2: {
          static_cast<void>(cache.reserve(pick(this->random, 0, 60)).ok());
          break;
        }
        case 3: {
          TypeParam other(std::move(cache));
          cache = std::move(other);
          break;
        }
        default: {
          auto step = cache.begin(ids(added));
          if (!step.ok()) {
            ASSERT_EQ(step.status().code(), heed::StatusCode::out_of_memory);
            break;
          }
          write_all(*step, cache, added);
          ASSERT_TRUE(step->commit().ok());
          tokens.insert(tokens.end(), added.begin(), added.end());
        }
      }
      ASSERT_EQ(cache.bytes().allocated, this->memory.held);
      ASSERT_EQ(cache.bytes().peak, this->memory.peak);
      if (move % 8 == 7) {
        ASSERT_NO_FATAL_FAILURE(expect_holds(cache, tokens));
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_holds(cache, tokens));
    this->memory.failing_from = -1;
    this->memory.peak = 0;  // of the next cache
  }
}

}  // namespace
}  // namespace heed_test::laws_test
