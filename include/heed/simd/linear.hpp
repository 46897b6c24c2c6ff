/// \file
/// Rows times a matrix, for any vector type: the product of a policy's linear maps and of the layers' projections.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include <heed/matrix.hpp>
#include <heed/simd/prefetch.hpp>
#include <heed/simd/register_tile.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI::detail {

/// y[r][o] = sum_i x[r][i] m[i][o], summed as a score is: i in blocks of 32, each with its own accumulator, ascending
/// from 0; the block sums are added in order. So a row has the same bits alone and among others.
template <class V>
struct LinearLoop {
  using Reg = typename V::Reg;        ///< W floats
  static constexpr int W = V::width;  ///< floats of a register

  /// The function of type Linear.
  static void run(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride) {
    if (!m.panels) return product(m, rows, {x, x_stride}, {y, y_stride});
    for (Index first = 0; first < m.out; first += Matrix::panel_columns) {
      product(m.panel(first), rows, {x, x_stride}, {y + first, y_stride});
    }
  }

 private:
  // Vectors of a tile of several rows, as for scores, and of one row.
  static constexpr int wide = tile_vectors<V>, wide_of_one = 8;
  // Up to this number of rows each is computed alone: with 16 registers a tile of several has a quarter of a panel's columns.
  static constexpr Index single_rows = V::registers >= 32 ? 1 : 4;
  // Columns and inputs of what is used for all rows before the next one. 16 KiB stay in L1.
  static constexpr Index panel_columns = Matrix::panel_columns, cached_inputs = 64;

  struct Rows {
    const float* at;
    Index stride;
    [[nodiscard]] Rows from(Index row) const { return {at + row * stride, stride}; }
  };
  struct Sums {
    float* at;
    Index stride;
    [[nodiscard]] Sums from(Index row, Index column) const { return {at + row * stride + column, stride}; }
  };

  // What is prefetched while an input is used: `count` weights, `numbers` numbers further on.
  struct Ahead {
    Index numbers = 0;
    Index count = 0;
  };

  // Weights as registers: load() fills N of them with N * W columns. store() writes their sums; until then they may be
  // in another order.
  struct Floats {
    static constexpr bool in_order = true;
    static const float* first(const Matrix& m) { return m.data; }
    template <int N>
    [[gnu::always_inline]] static void load(const float* from, Reg* to) {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) to[n] = V::load(from + n * W);
    }
    template <int N>
    [[gnu::always_inline]] static void store(float* to, const Reg* sum) {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) V::store(to + n * W, sum[n]);
    }
  };
  // One load gives two registers: the even columns, and the odd ones. Two instructions that every ISA has; widening 16-bit
  // lanes takes two for each register.
  struct Halves {
    static constexpr bool in_order = false;
    static const std::uint16_t* first(const Matrix& m) { return m.bf16; }
    template <int N>
    [[gnu::always_inline]] static void load(const std::uint16_t* from, Reg* to) {
      HEED_UNROLL
      for (int n = 0; n < N; n += 2) {
        const auto words = V::words(V::load_words(reinterpret_cast<const std::byte*>(from + n * W)));
        to[n] = V::floats(words << 16);
        to[n + 1] = V::floats(words & 0xffff0000u);
      }
    }
    template <int N>
    [[gnu::always_inline]] static void store(float* to, const Reg* sum) {
      for (int n = 0; n < N; n += 2) {
        float even[std::size_t(W)], odd[std::size_t(W)];
        V::store(even, sum[n]);
        V::store(odd, sum[n + 1]);
        for (int j = 0; j < W; ++j) {
          to[n * W + 2 * j] = even[j];
          to[n * W + 2 * j + 1] = odd[j];
        }
      }
    }
  };

  static void product(const Matrix& m, Index rows, Rows x, Sums y) {
    if (m.bf16 == nullptr) {
      product_of<Floats>(m, rows, x, y);
    } else {
      product_of<Halves>(m, rows, x, y);
    }
  }
  template <class Weights>
  static void product_of(const Matrix& m, Index rows, Rows x, Sums y) {
    Index o = 0;
    if (rows <= single_rows) o = columns<Weights, wide_of_one>(m, o, rows, x, y);
    o = columns<Weights, wide>(m, o, rows, x, y);
    if constexpr (Weights::in_order) o = columns<Weights, 1>(m, o, rows, x, y);
    for (; o < m.out; o += W) last(m, {o, std::min(o + W, m.out)}, rows, x, y);
  }

  // Computes the columns from `first` on in whole tiles of N vectors. Returns the first column that is left.
  template <class Weights, int N>
  static Index columns(const Matrix& m, Index first, Index rows, Rows x, Sums y) {
    constexpr Index tile = N * W, panel = std::max(panel_columns, tile);
    const Index end = first + (m.out - first) / tile * tile;
    for (; first < end; first += panel) {
      for (Index i = 0; i < std::max<Index>(m.in, 1); i += cached_inputs) {
        const Interval inputs{i, std::min(i + cached_inputs, m.in)};
        const Index last = std::min(first + panel, end);
        for (Index o = first; o < last; o += tile) {
          const auto rows_of = [&]<int R>(std::integral_constant<int, R>, Index r) {
            // Hardware prefetches for one tile that reads on and on. Several tiles interrupt each other, so the first one
            // prefetches the next inputs for all.
            const bool alone = rows == R && last - first == tile;
            const Ahead ahead{.numbers = cached_inputs * m.stride,
                              .count = alone || r > 0 || o > first ? 0 : last - first};
            add<Weights, R, N>(Weights::first(m) + o, m.stride, ahead, inputs, m.in, x.from(r), y.from(r, o));
          };
          Index r = 0;
          if constexpr (N <= wide) {
            for (; rows - r >= 6 && rows - r != 8; r += 6) rows_of(std::integral_constant<int, 6>{}, r);
          }
          if constexpr (N == wide) {
            for (; r + 4 <= rows; r += 4) rows_of(std::integral_constant<int, 4>{}, r);
            for (; r + 2 <= rows; r += 2) rows_of(std::integral_constant<int, 2>{}, r);
          }
          for (; r < rows; ++r) rows_of(std::integral_constant<int, 1>{}, r);
        }
      }
    }
    return end;
  }

  // Computes at most W columns that are no whole tile, from a padded copy of them as floats.
  static void last(const Matrix& m, Interval columns, Index rows, Rows x, Sums y) {
    const Index count = columns.size();
    float weights[std::size_t(score_dims * W)] = {};
    float sums[std::size_t(W)];
    for (Index begin = 0; begin < std::max<Index>(m.in, 1); begin += score_dims) {
      const Interval inputs{begin, std::min(begin + score_dims, m.in)};
      for (Index i = inputs.begin; i < inputs.end; ++i) {
        for (Index j = 0; j < count; ++j) weights[(i - begin) * W + j] = m.number(i, columns.begin + j);
      }
      for (Index r = 0; r < rows; ++r) {
        float* const out = y.from(r, columns.begin).at;
        if (begin > 0) std::memcpy(sums, out, std::size_t(count) * sizeof(float));
        add<Floats, 1, 1>(weights - begin * W, W, Ahead{}, inputs, m.in, x.from(r), {sums, W});
        std::memcpy(out, sums, std::size_t(count) * sizeof(float));
      }
    }
  }

  // Adds the products of `inputs`, of which there are `all`, to R rows of N vectors of sums in y. The first ones begin
  // the sums.
  template <class Weights, int R, int N, class Number>
  static void add(const Number* weights, Index stride, Ahead ahead, Interval inputs, Index all, Rows x, Sums y) {
    Index begin = inputs.begin;
    do {
      const Index end = std::min(begin + score_dims, inputs.end);
      RegisterTile<V, R, N> tile;
      tile.clear();
      for (Index i = begin; i < end; ++i) {
        Reg loaded[std::size_t(N)];
        Weights::template load<N>(weights + i * stride, loaded);
        const auto* const next = reinterpret_cast<const std::byte*>(weights + i * stride);
        for (Index n = 0; n < ahead.count; n += 64 / Index(sizeof(Number))) {
          prefetch_l2(next, (ahead.numbers + n) * Index(sizeof(Number)));
        }
        tile.add(x.at + i, x.stride, static_cast<const Reg*>(loaded));
      }
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        float* const at = y.from(r, 0).at;
        HEED_UNROLL
        for (int n = 0; begin > 0 && n < N; ++n) tile.sum[r][n] = V::add(V::load(at + n * W), tile.sum[r][n]);
        if (end < all) {
          HEED_UNROLL
          for (int n = 0; n < N; ++n) V::store(at + n * W, tile.sum[r][n]);
        } else {
          Weights::template store<N>(at, tile.sum[r]);
        }
      }
      begin = end;
    } while (begin < inputs.end);
  }
};

}  // namespace heed::inline HEED_ABI::detail
