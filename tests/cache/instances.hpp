/// \file
/// The caches that every law is tested with.
#pragma once

#include <gtest/gtest.h>

#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/codec/f32.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>

#include "cache/model.hpp"

namespace heed_test {

/// Several key heads that share one value head, values before keys, and a stream between them that no view reads.
struct Uneven {
  Index kv_heads = 2;
  Index key_width = 8;
  Index value_width = 8;

  static constexpr int key_stream = 2;
  static constexpr int value_stream = 0;
  [[nodiscard]] heed::Status validate() const { return {}; }
  [[nodiscard]] heed::AttentionLayout layout() const {
    return {.num_streams = 3,
            .streams = {heed::StreamShape{1, value_width}, {3, 5}, {kv_heads, key_width}},
            .key = {.stream = 2, .offset = 0, .width = key_width},
            .value = {.stream = 0, .offset = 0, .width = value_width},
            .num_heads = kv_heads,
            .num_kv_heads = kv_heads,
            .key_width = key_width,
            .value_width = value_width,
            .scale = 1};
  }
  [[nodiscard]] heed::Identity query_map() const { return {}; }
  [[nodiscard]] heed::Identity output_map() const { return {}; }
  [[nodiscard]] heed::Identity preparation() const { return {}; }
};

[[nodiscard]] inline heed::Gqa random_policy(std::mt19937_64& random, const heed::Gqa*) {
  const Index heads = pick(random, 1, 3);
  const Index width = pick_width(random);
  const Index v_width = pick_width(random);
  return {.num_heads = heads * 2, .num_kv_heads = heads, .head_dim = width, .v_head_dim = v_width, .scale = 1};
}
[[nodiscard]] inline heed::SharedRow random_policy(std::mt19937_64& random, const heed::SharedRow*) {
  return {.num_heads = 3, .num_kv_heads = 1, .head_dim = pick_width(random), .v_head_dim = 1, .scale = 1};
}
[[nodiscard]] inline Uneven random_policy(std::mt19937_64& random, const Uneven*) {
  return {.kv_heads = pick(random, 1, 3), .key_width = pick_width(random), .value_width = pick_width(random)};
}

/// A cache of random shape.
template <class Cache>
[[nodiscard]] heed::Result<Cache> random_cache(std::mt19937_64& random, const heed::CacheOptions& options,
                                               heed::AnyRule rule = {}) {
  return Cache::create(random_policy(random, static_cast<const typename Cache::Policy*>(nullptr)), options,
                       std::move(rule));
}

/// Pairs of equal and of other codecs, and one stream or several. What a cache does with rows does not depend on which codecs
/// they are of.
using Caches = testing::Types<heed::KvCache<heed::Gqa, heed::F32>, heed::KvCache<heed::Gqa, heed::F32, heed::Bf16>,
                              heed::KvCache<heed::SharedRow, heed::Bf16>, heed::KvCache<Uneven, heed::F32, heed::F16>,
                              heed::KvCache<heed::Gqa, heed::Bf16, heed::F16>>;

template <class T>
constexpr bool is_source = heed::KeyValueSource<typename T::Keys>;
static_assert(is_source<heed::KvCache<heed::Gqa, heed::F32>>);
static_assert(is_source<heed::KvCache<heed::SharedRow, heed::Bf16, heed::F32>>);
// One stream has one codec.
static_assert(std::same_as<heed::KvCache<heed::SharedRow, heed::Bf16, heed::F32>::ValueCodec, heed::Bf16>);
static_assert(std::same_as<heed::KvCache<heed::Gqa, heed::Bf16, heed::F32>::ValueCodec, heed::F32>);

}  // namespace heed_test
