/// \file
/// What a cache should hold, as one number per token: every row is a function of its token's seed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include <heed/cache/kv_cache.hpp>

namespace heed_test {

using heed::Index;
using Seed = std::uint64_t;
using Seeds = std::vector<Seed>;

/// Whether number() leaves out NaN and infinities: for what is attended to.
inline bool finite_numbers = false;

/// Some float, special values included, that no two places of a cache share by accident.
[[nodiscard]] inline float number(Seed token, Index layer, int stream, Index head, Index i) {
  std::uint64_t x = token;
  for (const Index part : {layer, Index(stream), head, i}) {
    x = (x ^ (std::uint64_t(part) + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
  }
  if (x % 61 == 0 && !finite_numbers) return std::bit_cast<float>(std::uint32_t(x >> 32));  // NaN, infinities, subnormals among them
  return float(std::int32_t(x >> 32)) * 0x1p-29f;
}

[[nodiscard]] inline std::vector<float> row(Seed token, Index layer, int stream, Index head, Index width) {
  std::vector<float> numbers(static_cast<std::size_t>(width));
  for (Index i = 0; i < width; ++i) numbers[std::size_t(i)] = number(token, layer, stream, head, i);
  return numbers;
}

/// [tokens][heads][width], what an engine hands to write().
[[nodiscard]] inline std::vector<float> rows(const Seeds& tokens, Index layer, int stream, heed::StreamShape shape) {
  std::vector<float> all;
  for (const Seed token : tokens) {
    for (Index head = 0; head < shape.num_heads; ++head) {
      const auto one = row(token, layer, stream, head, shape.width);
      all.insert(all.end(), one.begin(), one.end());
    }
  }
  return all;
}

[[nodiscard]] inline std::vector<std::int32_t> ids(const Seeds& tokens) {
  std::vector<std::int32_t> result;
  for (const Seed token : tokens) result.push_back(std::int32_t(token & 0x7fffffff));
  return result;
}

[[nodiscard]] inline Seeds new_tokens(std::mt19937_64& random, Index count) {
  Seeds tokens(static_cast<std::size_t>(count));
  for (Seed& token : tokens) token = random();
  return tokens;
}

template <class Cache>
void write_all(typename Cache::Step& step, const Cache& cache, const Seeds& tokens) {
  for (Index layer = 0; layer < cache.layers(); ++layer) {
    for (int stream = 0; stream < cache.layout().num_streams; ++stream) {
      const auto shape = cache.layout().streams[std::size_t(stream)];
      const heed::Status status = step.write(layer, stream, rows(tokens, layer, stream, shape));
      ASSERT_TRUE(status.ok()) << status.message();
    }
  }
}

template <class Cache>
void append(Cache& cache, const Seeds& tokens) {
  auto step = cache.begin(ids(tokens));
  ASSERT_TRUE(step.ok()) << step.status().message();
  write_all(*step, cache, tokens);
  const heed::Status status = step->commit();
  ASSERT_TRUE(status.ok()) << status.message();
}

[[nodiscard]] inline std::vector<Index> all_positions(Index tokens) {
  std::vector<Index> positions(static_cast<std::size_t>(tokens));
  std::iota(positions.begin(), positions.end(), Index{0});
  return positions;
}

/// `view` is layer `layer` of a cache that holds the rows of exactly these positions; tokens[p] is what came at p. Reads
/// all that may be read.
template <class Cache>
void expect_rows(const typename Cache::Keys& view, const Cache& cache, Index layer, const Seeds& tokens,
                 const std::vector<Index>& positions) {
  const Index size = Index(positions.size());
  ASSERT_EQ(view.size(), size);
  for (Index key = 0; key < size; ++key) ASSERT_EQ(view.position(key), positions[std::size_t(key)]);
  std::vector<std::byte> expected;
  for (int stream = 0; stream < cache.layout().num_streams; ++stream) {
    const auto shape = cache.layout().streams[std::size_t(stream)];
    const bool is_value = stream == Cache::Policy::value_stream;
    for (Index head = 0; head < shape.num_heads; ++head) {
      // A quarter, then everything that is left, run by run.
      for (Index first = 0, max = 1 + size / 4; first < size; max = size) {
        const heed::RowRun run = view.row_run(stream, head, first, max);
        ASSERT_GE(run.rows, 1);
        ASSERT_LE(run.rows, std::min(max, size - first));
        for (Index i = 0; i < run.rows; ++i) {
          const auto position = std::size_t(positions[std::size_t(first + i)]);
          const auto numbers = row(tokens[position], layer, stream, head, shape.width);
          const Index bytes =
              is_value ? Cache::ValueCodec::row_bytes(shape.width) : Cache::KeyCodec::row_bytes(shape.width);
          ASSERT_LE(bytes, run.stride_bytes);
          ASSERT_LE(bytes + heed::detail::read_slack, run.readable_bytes);
          expected.assign(std::size_t(run.stride_bytes), std::byte{0});  // padding is zero
          if (is_value) {
            Cache::ValueCodec::encode(numbers.data(), shape.width, expected.data());
          } else {
            Cache::KeyCodec::encode(numbers.data(), shape.width, expected.data());
          }
          const std::byte* stored = run.data + i * run.stride_bytes;
          ASSERT_TRUE(std::equal(expected.begin(), expected.end(), stored))
              << "layer " << layer << ", stream " << stream << ", head " << head << ", key " << first + i;
          // AddressSanitizer checks that these bytes exist, Valgrind that they are defined.
          unsigned sum = 0;
          for (Index b = 0; b < run.readable_bytes; ++b) sum += unsigned(stored[b]);
          ASSERT_LT(sum, 256u * unsigned(run.readable_bytes));
        }
        first += run.rows;
      }
    }
  }
}

template <class Cache>
void expect_rows(const typename Cache::Keys& view, const Cache& cache, Index layer, const Seeds& tokens) {
  expect_rows(view, cache, layer, tokens, all_positions(Index(tokens.size())));
}

/// Layer `layer` has seen `tokens` and holds those at `positions`: ids, positions and rows.
template <class Cache>
void expect_keeps(const Cache& cache, Index layer, const Seeds& tokens, const std::vector<Index>& positions) {
  ASSERT_EQ(cache.seen(), Index(tokens.size()));
  ASSERT_EQ(cache.kept(layer), Index(positions.size()));
  ASSERT_EQ(cache.evicted(layer), Index(tokens.size() - positions.size()));
  const auto expected = ids(tokens);
  for (Index key = 0; key < cache.kept(layer); ++key) {
    const auto position = std::size_t(positions[std::size_t(key)]);
    ASSERT_EQ(cache.position(key, layer), Index(position)) << "key " << key;
    ASSERT_EQ(cache.token_id(key, layer), expected[position]) << "key " << key;
  }
  expect_rows(cache.keys(layer), cache, layer, tokens, positions);
}

/// The whole cache holds exactly `tokens`.
template <class Cache>
void expect_holds(const Cache& cache, const Seeds& tokens) {
  const Index size = Index(tokens.size());
  ASSERT_LE(size, cache.capacity());
  for (Index layer = 0; layer < cache.layers(); ++layer) {
    ASSERT_EQ(cache.size(layer), size);
    expect_keeps(cache, layer, tokens, all_positions(size));
  }
}

/// A random number in [least, most].
[[nodiscard]] inline Index pick(std::mt19937_64& random, Index least, Index most) {
  return least + Index(random() % std::uint64_t(most - least + 1));
}

/// Widths that are odd, or fill a vector, or miss one by a little.
[[nodiscard]] inline Index pick_width(std::mt19937_64& random) {
  constexpr Index widths[] = {1, 2, 3, 7, 8, 15, 16, 24, 31, 32, 33, 64, 72};
  return widths[random() % std::size(widths)];
}

}  // namespace heed_test
