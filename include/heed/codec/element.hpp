/// \file
/// The common part of codecs that store one element per number, without factors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <heed/factors.hpp>
#include <heed/simd/registers.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Base of codecs that store one element per number. `Derived` has to_float(), from_float(), a Reader<V>, and a Writer<V>
/// whose store(to, numbers) writes V::width elements, of the bits that from_float() gives.
template <class Derived, class ElementType>
struct ElementCodec {
  using Element = ElementType;                                    ///< how a number is stored
  static constexpr Index element_bytes = Index(sizeof(Element));  ///< bytes of a stored number
  static constexpr Factors factors = Factors::none;               ///< a stored number needs none
  static constexpr Index view_step = 1;                           ///< views may begin at any number
  static constexpr Index row_alignment = heed::row_alignment;     ///< bytes

  /// Bytes of an encoded row of `width` numbers, padding not included.
  [[nodiscard]] static constexpr Index row_bytes(Index width) noexcept { return width * element_bytes; }
  /// Rows have no entry in a plane of factors.
  [[nodiscard]] static constexpr Index factor_bytes(Index) noexcept { return 0; }
  /// Offset of number `first` of a row, in bytes.
  [[nodiscard]] static constexpr Index offset_bytes(Index first) noexcept { return first * element_bytes; }

  /// Encodes `n` numbers to `out`, rounding to nearest even in every rounding mode.
  static void encode(const float* in, Index n, std::byte* out) noexcept {
    encode_by<detail::AnyLanes<detail::native_lanes>>(in, n, out);
  }
  /// The same, the same bits, with the registers of vector type `V`.
  template <class V>
  static void encode_by(const float* in, Index n, std::byte* out) noexcept {
    using Write = typename Derived::template Writer<V>;
    Index i = 0;
    for (; i + V::width <= n; i += V::width) {
      Write::store(out + i * element_bytes, V::load_words(reinterpret_cast<const std::byte*>(in + i)));
    }
    for (; i < n; ++i) {
      const Element e = Derived::from_float(in[i]);
      std::memcpy(out + i * element_bytes, &e, sizeof e);
    }
  }
  /// The same for a row of a cache. There are no factors to write.
  static void encode(const float* in, Index width, std::byte* row, std::byte*) noexcept {
    Derived::encode(in, width, row);
  }

  /// Decodes `n` numbers from `in`, exactly. Any alignment.
  static void decode(const std::byte* in, Index n, float* out) noexcept {
    for (Index i = 0; i < n; ++i) {
      Element e;
      std::memcpy(&e, in + i * element_bytes, sizeof e);
      out[i] = Derived::to_float(e);
    }
  }
  /// The numbers [first, first + n) of a row.
  static void codes(const std::byte* row, Index first, Index n, float* out) noexcept {
    decode(row + offset_bytes(first), n, out);
  }
};

}  // namespace heed::inline HEED_ABI
