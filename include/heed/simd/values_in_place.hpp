/// \file
/// Outputs from values that are read where they lie: for few rows.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/simd/cuts.hpp>
#include <heed/simd/output_tile.hpp>
#include <heed/simd/prefetch.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// Accumulates encoded values, on the vector type `V`.
template <class V>
struct ValuesInPlaceLoops {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register
  /// Accumulators of a tile.
  static constexpr int accumulators = V::registers >= 32 ? 16 : 8;

  /// targets[r].out[first_dim + d] = sum over k in `keys` of p[r][k] * (number first_dim + d of value k), as
  /// ValuePanelLoops::accumulate_panel() does, reading the encoded values where they lie. They must be readable up to
  /// whole vectors. Keys are taken in blocks, so that each value is fetched from memory once for all rows.
  template <class C>
  static void accumulate_rows(const float* p, Index rows, const KeyRows& values, Interval keys, Index first_dim,
                              Index dims, RowTarget* targets, Accumulate phase) {
    constexpr bool many_registers = V::registers >= 32;
    const Index block = rows <= 1 ? (many_registers ? chunk_keys : 16) : (many_registers ? 64 : 32);
    Index begin = keys.begin;
    do {
      const Interval part{begin, std::min(begin + block, keys.end)};
      const Accumulate here{phase.resume || begin > keys.begin, phase.finish && part.end == keys.end};
      detail::for_value_rows<tile_rows<V>>(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        // Only the first rows find the values in memory; for the others they are in L1.
        const Rows<C> load{values.row, r == 0 ? values.ahead : nullptr, values.offset + first_dim, values.factors,
                           r == 0 ? values.far_ahead : nullptr};
        constexpr int vectors = many_registers ? 16 / (R <= 2 ? 2 : R <= 4 ? 4 : 8) : 8 / (R == 3 ? 4 : R);
        detail::for_dims<W, vectors>(dims, [&]<int N>(std::integral_constant<int, N>, Index d) {
          OutputLoops<V>::template accumulate_tile<R, N>(p + r * chunk_keys, part, d, first_dim + d, targets + r, here,
                                                         load, nullptr);
        });
      });
      begin = part.end;
    } while (begin < keys.end);  // at least once: an empty range still starts, parks or finishes
  }

 private:
  // Values in place. `first` is the number of a row that dim 0 is.
  template <class C>
  struct Rows {
    static constexpr bool in_place = true;
    static constexpr Factors factors = C::factors;
    const std::byte* const* row;
    const std::byte* const* ahead;
    Index first;
    const std::byte* const* entry;
    const std::byte* const* far_ahead;
    using Read = typename C::template Reader<V>;
    // true if words of a row make registers of numbers faster than load().
    template <int N>
    static constexpr bool by_words = N % 2 == 0 && requires { Read::two_by_shifts; };
    template <int N>
    using Order = typename detail::OrderOf<V, N, detail::EvenThenOdd, by_words<N>>::type;
    template <int N>
    [[gnu::always_inline]] void values(Index k, Index d, Reg* v) const {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) {
        prefetch(k, d + n * W);
        if constexpr (by_words<N>) {
          if (n % 2 != 0) continue;
          const Reg words = V::load_words(row[k] + C::offset_bytes(first + d + n * W));
          v[n] = Read::number(&words, 0);
          v[n + 1] = Read::number(&words, 1);
        } else {
          v[n] = Read::load(row[k], first + d + n * W);
        }
      }
    }
    [[gnu::always_inline]] void prefetch(Index k, Index d) const {
      const Index byte = C::offset_bytes(first + d / C::view_step * C::view_step);
      if ((byte - C::offset_bytes(first)) % 64 != 0) return;
      if (ahead != nullptr) detail::prefetch(ahead[k], byte);
      if (far_ahead != nullptr) detail::prefetch_l2(far_ahead[k], byte);
    }
    [[gnu::always_inline]] float factor(Index k, Index d) const {
      return C::factor(row[k], entry == nullptr ? nullptr : entry[k], detail::factor_of<factors>(first + d));
    }
  };
};

}  // namespace heed::inline HEED_ABI
