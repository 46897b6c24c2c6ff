/// \file
/// Codes of codecs that are written in tests: signed bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include <heed/types.hpp>

namespace heed_test {

/// Rows of signed bytes that begin at byte `head` of a row. A codec derives from it, and adds its name, sizes and factors.
/// The toy codecs of tests/codec do not: each shows a whole codec in one file.
template <heed::Index head = 0>
struct SignedBytes {
  static heed::Index offset_bytes(heed::Index first) { return head + first; }
  static void codes(const std::byte* row, heed::Index first, heed::Index n, float* out) {
    for (heed::Index i = 0; i < n; ++i) out[i] = float(std::int8_t(row[head + first + i]));
  }
  template <class V>
  struct Reader {
    using Reg = typename V::Reg;
    static constexpr int group_words = 1;
    static constexpr int group_numbers = 4;
    static Reg number(const Reg* group, int i) {
      return V::from_ints((typename V::Ints)(V::words(*group) << (24 - 8 * i)) >> 24);
    }
    static Reg load(const std::byte* row, heed::Index first) {
      return V::from_bytes(V::load_bytes(row + head + first));
    }
  };
};

}  // namespace heed_test
