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

/// Type of every count, offset and stride. 64 bits, because caches have more than 2^31 elements.
using Index = std::int64_t;

/// A number of tokens, where a bare integer could be taken for a token id: `cache.begin(NumTokens(1))`.
class NumTokens {
 public:
  /// `count` tokens. Not checked here: begin() refuses a negative number.
  template <class N>
    requires(std::is_integral_v<N> && !std::is_same_v<N, bool>)
  explicit constexpr NumTokens(N count) noexcept : count_(static_cast<Index>(count)) {}
  /// The number of tokens.
  [[nodiscard]] constexpr Index count() const noexcept { return count_; }

 private:
  Index count_;
};

/// Keys per chunk of the kernel. Fixed: results must not depend on threads, pages or batch (docs/design.md).
inline constexpr Index chunk_keys = 256;

/// What one token leaves in one stream of one layer: `num_heads` rows of `width` elements.
struct StreamShape {
  Index num_heads = 0;  ///< 1 .. 2^16
  Index width = 0;      ///< elements, 1 .. 2^24

  friend bool operator==(const StreamShape&, const StreamShape&) = default;
};

/// The slice [offset, offset + width) of every row of a stream. Views may overlap: MLA's values are a prefix of its
/// keys.
struct View {
  int stream = 0;    ///< number of the stream
  Index offset = 0;  ///< elements
  Index width = 0;   ///< elements

  friend bool operator==(const View&, const View&) = default;
};

/// The shape of an attention mechanism: what is cached, and what the kernel reads as keys and as values.
///
/// Query head h reads KV head floor(h * num_kv_heads / num_heads). A stream with one head serves every KV head.
struct AttentionLayout {
  static constexpr int max_streams = 4;  ///< most streams that a layout has

  int num_streams = 0;                             ///< 1 .. max_streams
  std::array<StreamShape, max_streams> streams{};  ///< the first num_streams of them are cached
  View key;                                        ///< what the kernel reads as keys
  View value;                                      ///< what the kernel reads as values
  Index num_heads = 0;                             ///< query heads
  Index num_kv_heads = 0;                          ///< KV heads; must divide num_heads
  Index key_width = 0;    ///< numbers of a query after the query map: key.width, unless the policy prepares keys
  Index value_width = 0;  ///< width of one head's output before the output map: value.width, unless prepared
  float scale = 0;        ///< softmax scale, applied to q.k

  /// Query heads that read one KV head; 0 without KV heads.
  [[nodiscard]] Index heads_per_group() const noexcept { return num_kv_heads < 1 ? 0 : num_heads / num_kv_heads; }
};

/// Consecutive rows of a source that share a stride: row i starts at data + i * stride_bytes.
struct RowRun {
  const std::byte* data = nullptr;  ///< row 0; not owned
  Index rows = 0;                   ///< number of rows
  Index stride_bytes = 0;           ///< bytes from one row to the next; may be negative
  /// Bytes that may be read from the start of each row, padding included. At least the bytes of an encoded row.
  Index readable_bytes = 0;
  const std::byte* factors = nullptr;  ///< row 0's entry in the plane of factors; null: the codec has no plane
  Index factor_stride_bytes = 0;       ///< bytes from one row's entry to the next; may be negative
};

/// What the addresses of a source's rows are relative to: see OffsetSource (concepts.hpp). Numbers, because rows of different
/// heads and layers need not lie in one object.
struct RowBase {
  std::uintptr_t rows = 0;     ///< of the rows
  std::uintptr_t factors = 0;  ///< of the entries in the plane of factors
};

/// The half-open range [begin, end) of positions, keys or other numbers.
struct Interval {
  Index begin = 0;  ///< first number
  Index end = 0;    ///< the number behind the last one

  /// Length: end - begin.
  [[nodiscard]] Index size() const noexcept { return end - begin; }
  friend bool operator==(const Interval&, const Interval&) = default;
};

/// Where the near keys of a source begin. Keys from `first_key` on have consecutive positions. Key `first_key + i` has
/// slot `first_slot + i` of the near chunks. A slot decides where a key is added: slot s is number s % 256 of chunk
/// s / 256. So a key must keep its slot whatever else is cached. Usually the slot is the key's position.
struct NearKeys {
  Index first_key = 0;   ///< index in the source
  Index first_slot = 0;  ///< at least 0

  friend bool operator==(const NearKeys&, const NearKeys&) = default;
};

/// How much of a (queries x keys) rectangle a mask leaves visible. `none` and `full` are promises.
enum class Coverage {
  none,     ///< no query sees a key
  partial,  ///< neither, or the mask does not know
  full,     ///< every query sees every key
};

/// The smallest multiple of `multiple` that is at least n. n >= 0, multiple >= 1, and their sum fits into 64 bits: a
/// number of the caller's is a Count.
[[nodiscard]] constexpr Index round_up(Index n, Index multiple) noexcept {
  return (n + multiple - 1) / multiple * multiple;
}

/// A reference to a callable, which must outlive every call. Nothing is owned, copied or allocated.
template <class Signature>
class FunctionRef;

/// FunctionRef of a callable that takes Args and returns R.
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  /// Refers to `f`, which is not copied and must outlive this.
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>)
  FunctionRef(F&& f)
  noexcept  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}

  /// Calls it.
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace heed::inline HEED_ABI
