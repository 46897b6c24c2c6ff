/// \file
/// A KV cache that is never in the processor's caches: as many layers as it takes, read in turn, as a model does.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <heed/cache/kv_cache.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/workspace.hpp>

#include "check.hpp"
#include "gaussian.hpp"
#include "shapes.hpp"

namespace bench {

/// Rows in all layers together: four times a 32 MiB L3.
inline constexpr Index cold_bytes = Index{128} << 20;

/// The one slot of keep_last().
inline std::pair<std::string, std::shared_ptr<void>>& last_kept() {
  static std::pair<std::string, std::shared_ptr<void>> kept;
  return kept;
}

/// Queries, which are bf16 numbers so that no math rounds them, where the answer goes and what it should be. Kept between repetitions: fresh memory would be timed too.
struct Problem {
  std::vector<float> q;
  std::vector<float> out;
  Expected expected;  ///< in layer 0
  heed::Workspace workspace;
};

/// Layers of `keys` keys that hold more than cold_bytes.
template <class P, class C>
[[nodiscard]] Index cold_layers(const P& policy, Index keys) {
  const auto one = heed::value_or_throw(heed::KvCache<P, C>::create(policy, {.layers = 1}));
  return cold_bytes / (keys * one.row_bytes_per_token()) + 1;
}

template <class P, class C>
class ColdCache {
 public:
  /// `keys` Gaussian keys and values in each of `layers` layers.
  ColdCache(const P& policy, Index keys, Index layers)
      : layout_(policy.layout()),
        cache_(heed::value_or_throw(heed::KvCache<P, C>::create(policy, {.layers = layers, .capacity = keys}))) {
    Gaussians numbers(2);
    Index widest = 1;
    for (int s = 0; s < layout_.num_streams; ++s) widest = std::max(widest, row_floats(s));
    const Index most = std::min<Index>(64, Gaussians::longest / widest);
    for (Index count; (count = std::min(most, keys - cache_.size())) > 0;) {
      auto step = heed::value_or_throw(cache_.begin(heed::NumTokens(count)));
      for (Index layer = 0; layer < cache_.layers(); ++layer) {
        for (int s = 0; s < layout_.num_streams; ++s) {
          heed::check(step.write(layer, s, numbers.next(count * row_floats(s))));
        }
      }
      heed::check(step.commit());
    }
  }

  [[nodiscard]] const heed::KvCache<P, C>& cache() const { return cache_; }
  [[nodiscard]] const heed::AttentionLayout& layout() const { return layout_; }

  /// The problem of the last `queries` tokens; made once.
  [[nodiscard]] Problem& problem(Index queries) {
    auto [at, is_new] = problems_.try_emplace(queries);
    Problem& p = at->second;
    if (is_new) {
      Gaussians numbers(3);
      while (Index(p.q.size()) < queries * layout_.num_heads * layout_.key_width) {
        const auto row = numbers.next(layout_.key_width);
        for (const float x : row) p.q.push_back(heed::Bf16::to_float(heed::Bf16::from_float(x)));
      }
      p.out.resize(std::size_t(queries * layout_.num_heads * layout_.value_width));
      const auto read = [&](Index kv_head, Index key, double* k, double* v) {
        const float* const row_of_key = decode(0, layout_.key.stream, kv_head, key);
        const float* const row_of_value = decode(1, layout_.value.stream, kv_head, key);
        read_row(cache_.policy(), kv_head, key, row_of_key, row_of_value, k, v);
      };
      p.expected = Expected(layout_, p.q, cache_.size(), read);
    }
    return p;
  }

 private:
  [[nodiscard]] Index row_floats(int stream) const {
    const heed::StreamShape& shape = layout_.streams[std::size_t(stream)];
    return shape.num_heads * shape.width;
  }

  // The whole stored row, in buffer 0 or 1.
  const float* decode(std::size_t buffer, int stream, Index kv_head, Index key) {
    const heed::StreamShape& shape = layout_.streams[std::size_t(stream)];
    std::vector<float>& row = decoded_[buffer];
    row.resize(std::size_t(shape.width));
    C::decode(cache_.keys(0).row_run(stream, shape.num_heads == 1 ? 0 : kv_head, key, 1).data, shape.width, row.data());
    return row.data();
  }

  heed::AttentionLayout layout_;
  heed::KvCache<P, C> cache_;
  std::map<Index, Problem> problems_;
  std::array<std::vector<float>, 2> decoded_;
};

/// The thing made last, of any type: making one takes longer than a benchmark, and two may not fit in memory.
/// `key` says what it is, its type included.
template <class T, class... Args>
T& keep_last(const std::string& key, const Args&... args) {
  auto& [kept_key, kept] = last_kept();
  if (kept_key != key) {
    kept_key.clear();
    kept.reset();
    kept = std::make_shared<T>(args...);
    kept_key = key;
  }
  return *static_cast<T*>(kept.get());
}

}  // namespace bench
