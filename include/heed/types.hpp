/// \file
/// The small vocabulary every part of heed shares.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

/// Every count, offset and stride: 64 bits, because caches pass 2^31 elements.
using Index = std::int64_t;

/// A number of tokens where a bare integer could also be a token id: `cache.begin(NumTokens(1))`.
class NumTokens {
 public:
  template <class N>
    requires(std::is_integral_v<N> && !std::is_same_v<N, bool>)
  explicit constexpr NumTokens(N count) noexcept : count_(static_cast<Index>(count)) {}
  [[nodiscard]] constexpr Index count() const noexcept { return count_; }

 private:
  Index count_;
};

/// Keys per chunk of the kernel. Fixed: results must not depend on threads, pages or batch (docs/design.md).
inline constexpr Index chunk_keys = 256;

/// What one token leaves in one stream of one layer: `num_heads` rows of `width` elements.
struct StreamShape {
  Index num_heads = 0;
  Index width = 0;

  friend bool operator==(const StreamShape&, const StreamShape&) = default;
};

/// A slice [offset, offset + width) of every row of a stream. Views may overlap: MLA's values are a prefix of its keys.
struct View {
  int stream = 0;
  Index offset = 0;
  Index width = 0;

  friend bool operator==(const View&, const View&) = default;
};

/// The shape of an attention mechanism: what is cached, and what the kernel reads as keys and as values.
///
/// Query head h reads KV head floor(h * num_kv_heads / num_heads). A stream with one head serves every KV head.
struct AttentionLayout {
  static constexpr int max_streams = 4;

  int num_streams = 0;
  std::array<StreamShape, max_streams> streams{};
  View key;
  View value;
  Index num_heads = 0;
  Index num_kv_heads = 0;
  Index key_width = 0;    ///< what a query is multiplied with: key.width, unless the policy prepares keys
  Index value_width = 0;  ///< width of one head's output before the output map: value.width, unless prepared
  float scale = 0;        ///< softmax scale, applied to q.k

  [[nodiscard]] Index heads_per_group() const noexcept { return num_heads / num_kv_heads; }
};

/// A run of stored rows that share a stride: row i starts at data + i * stride_bytes.
struct Tile {
  const std::byte* data = nullptr;
  Index rows = 0;
  Index stride_bytes = 0;
  /// Bytes that may be read from the start of each row, padding included. At least the encoded row.
  Index readable_bytes = 0;
};

/// Half-open range of token indices.
struct Interval {
  Index begin = 0;
  Index end = 0;

  [[nodiscard]] Index size() const noexcept { return end - begin; }
  friend bool operator==(const Interval&, const Interval&) = default;
};

/// Where the near keys of a source begin: key first_key has lane first_lane, the next one first_lane + 1, and so on.
/// Their positions follow each other, too. A key's chunk is its lane / 256, so the lane must be the key's own (usually its
/// position), whatever else is cached.
struct NearKeys {
  Index first_key = 0;
  Index first_lane = 0;

  friend bool operator==(const NearKeys&, const NearKeys&) = default;
};

/// How much of a (queries x keys) rectangle a mask leaves visible.
enum class Coverage { none, partial, full };

/// Rounds `n` up to a multiple of `multiple`.
[[nodiscard]] constexpr Index round_up(Index n, Index multiple) noexcept {
  return (n + multiple - 1) / multiple * multiple;
}

/// A non-owning reference to a callable, for calls outside the token loop.
template <class Signature>
class FunctionRef;

template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>)
  FunctionRef(F&& f)
  noexcept  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace heed::inline HEED_ABI
