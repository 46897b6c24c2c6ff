/// \file
/// The common part of codecs that store one element per number, without scales.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Base of codecs that store one element per number. `Derived` has to_float() and from_float().
template <class Derived, class ElementType>
struct ElementCodec {
  using Element = ElementType;
  static constexpr Index element_bytes = Index(sizeof(Element));

  /// Bytes of an encoded row of `width` numbers, padding not included.
  [[nodiscard]] static constexpr Index row_bytes(Index width) noexcept { return width * element_bytes; }
  /// Offset of number `first` of a row, in bytes.
  [[nodiscard]] static constexpr Index offset_bytes(Index first) noexcept { return first * element_bytes; }

  /// Encodes `n` numbers to `out`, rounding to nearest even in every rounding mode.
  static void encode(const float* in, Index n, std::byte* out) noexcept {
    for (Index i = 0; i < n; ++i) {
      const Element e = Derived::from_float(in[i]);
      std::memcpy(out + i * element_bytes, &e, sizeof e);
    }
  }

  /// Decodes `n` numbers from `in`, exactly. Any alignment.
  static void decode(const std::byte* in, Index n, float* out) noexcept {
    for (Index i = 0; i < n; ++i) {
      Element e;
      std::memcpy(&e, in + i * element_bytes, sizeof e);
      out[i] = Derived::to_float(e);
    }
  }
};

}  // namespace heed::inline HEED_ABI
