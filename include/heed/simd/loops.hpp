/// \file
/// The inner loops, written once over a vector type `V` (simd/vector_xsimd.hpp, simd/vector_eigen.hpp).
///
/// The arithmetic contract (docs/design.md) fixes the order of the additions. Tile shapes only decide how much is
/// computed at once. simd/scalar.hpp computes the same in plain loops.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/factors.hpp>
#include <heed/floats.hpp>
#include <heed/simd/exponential.hpp>
#include <heed/simd/gates.hpp>
#include <heed/simd/linear.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/registers.hpp>
#include <heed/simd/ternary/select.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI {

/// A backend: every loop of SimdBackend (concepts.hpp) on the vector type `V`.
template <class V>
struct Loops {
  using Reg = typename V::Reg;                        ///< W floats
  static constexpr int W = V::width;                  ///< floats of a register
  static constexpr int block_words = V::block_words;  ///< words per row of a transposed block
  static constexpr const char* name = V::name;        ///< for reports
  /// Elementwise gates.
  using Gates = GateLoops<V, Loops>;
  /// Products of ternary weights.
  using Ternary = typename detail::TernaryOf<W>::type;

  /// Up to this many query rows read keys and values in place. More rows read packed panels.
  static constexpr Index few_rows = 8;

  // Tile shapes follow from the number of registers: accumulators + one row of operands + one broadcast.
  /// Vectors of a panel that a tile of 6 rows reads: 6 x 4 + 4 + 1 = 29 of 32 registers, or 6 x 2 + 2 + 1 = 15 of 16.
  static constexpr int panel_vectors = V::registers >= 32 ? 4 : 2;
  /// Accumulators of a tile that reads values in place.
  static constexpr int row_accumulators = V::registers >= 32 ? 16 : 8;

  // --- scores ------------------------------------------------------------------------------------------------------

  /// panel[d][k] = code d of key k, for d in [0, width). panel [width][64] floats, at most 64 keys. The panel is filled
  /// to whole tiles: the last key is repeated. Reads no byte beyond `width` numbers of a row.
  template <class C>
  static void pack_keys(const KeyRows& rows, Index width, float* panel) {
    using Step = KeyStep<C>;
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = 0; first < round_up(rows.count, panel_vectors * W); first += W) {
      const std::byte* row[std::size_t(W)];
      for (int j = 0; j < W; ++j) row[j] = rows.row[std::min(first + j, rows.count - 1)];
      for (Index begin = 0; begin < whole; begin += score_dims) {
        Index byte = C::offset_bytes(rows.offset + begin);
        for (Index d = begin; d < std::min(begin + score_dims, whole); d += Step::numbers, byte += Step::words * 4) {
          Reg t[std::size_t(Step::words)];
          V::template load_block<Step::words>(row, byte, t);
          float* out = panel + d * panel_keys + first;
          HEED_UNROLL
          for (int i = 0; i < Step::numbers; ++i) V::store(out + i * panel_keys, Step::number(t, i));
        }
      }
      for (int j = 0; j < W; ++j) {  // the rest of each row, without reading beyond it
        float tail[std::size_t(Step::numbers)];
        C::codes(row[j], rows.offset + whole, width - whole, tail);
        for (Index d = whole; d < width; ++d) panel[d * panel_keys + first + j] = tail[d - whole];
      }
    }
  }

  /// s[r][k] = scale * (q[r] . key k) for keys [0, count) of a packed panel. Rows of s are 256 floats apart. Writes
  /// whole vectors: up to panel_vectors * W - 1 more floats of a row. Prefetches `ahead`. Factors of whole tiles are read.
  template <Factors F = Factors::none>
  static void score_panel(const float* q, Index q_stride, Index rows, const float* panel, Index width, Index count,
                          float scale, float* s, const Ahead& ahead, PanelFactors<F> factors = {}) {
    Index loop = 0;
    for (Index key = 0; key < count; key += panel_vectors * W) {
      PanelFactors<F> of_tile = factors;
      if constexpr (F != Factors::none) of_tile.at += key;
      for_row_tiles(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        score_panel_tile<R, F>(q + r * q_stride, q_stride, panel + key, width, scale, s + r * chunk_keys + key,
                               ahead.begin(loop++, width), of_tile);
      });
    }
  }

  /// s[r][k] = scale * (q[r] . key k) for rows r in [0, rows), reading the encoded keys where they lie. They must be
  /// readable up to whole vectors.
  template <class C>
  static void score_rows(const float* q, Index q_stride, Index rows, const KeyRows& keys, Index width, float scale,
                         float* s) {
    const auto tile = [&]<int R>(std::integral_constant<int, R>, Index r) {
      score_rows_tile<C, R>(q + r * q_stride, q_stride, keys, width, scale, s + r * chunk_keys);
    };
    Index r = 0;
    for (; r + 8 <= rows; r += 8) tile(std::integral_constant<int, 8>{}, r);
    for_few_rows(rows, r, tile);
  }

  // --- logits ------------------------------------------------------------------------------------------------------

  /// s[k] = cap * tanh(s[k] / cap) for k in [0, count), rounded up to whole vectors.
  static void soft_cap(float* s, Index count, float cap) {
    const Reg c = V::set1(cap);
    for (Index k = 0; k < count; k += W) V::store(s + k, V::mul(c, tanh(V::div(V::load(s + k), c))));
  }

  /// s[k] -= slope * |position[k] + shift| for k in [0, count), rounded up to whole vectors.
  static void add_bias(float* s, Index count, float slope, const float* position, float shift) {
    const Reg a = V::set1(-slope), b = V::set1(shift), zero = V::set1(0);
    for (Index k = 0; k < count; k += W) {
      const Reg distance = V::add(V::load(position + k), b);
      V::store(s + k, V::fma(a, V::max(distance, V::sub(zero, distance)), V::load(s + k)));
    }
  }

  /// Replaces s[k] by 2^-8 exp(s[k] - max) for k in [0, count) and returns max and sum. -inf becomes exactly 0, and so
  /// do the floats from `count` to the next multiple of 16. The sum has 16 parts, which become 8, 4, 2, 1.
  static ChunkSum softmax(float* s, Index count) {
    constexpr int parts = 16 / W;
    const Index padded = round_up(count, 16);
    if (count < padded) {  // by whole vectors: a load of what narrower stores just wrote would wait for them
      static constexpr float number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      const Reg end = V::set1(float(count - (padded - 16))), lowest = V::set1(-detail::infinity);
      HEED_UNROLL
      for (int i = 0; i < parts; ++i) {
        float* const at = s + padded - 16 + i * W;
        V::store(at, V::select_less(V::load(number + i * W), end, V::load(at), lowest));
      }
    }
    Reg best[std::size_t(parts)];
    HEED_UNROLL
    for (int i = 0; i < parts; ++i) best[i] = V::load(s + i * W);
    for (Index k = 16; k < padded; k += 16) {
      HEED_UNROLL
      for (int i = 0; i < parts; ++i) best[i] = V::max(best[i], V::load(s + k + i * W));
    }
    const float max = fold_lanes(best, [](Reg a, Reg b) { return V::max(a, b); });
    if (max == -detail::infinity) {  // nothing visible, unless a NaN hides behind the maximum
      float sum = 0;
      for (Index k = 0; k < padded; ++k) {
        sum += s[k] == max ? 0.0f : s[k];
        s[k] = 0;
      }
      return {sum != sum ? sum : max, sum};
    }
    const Reg m = V::set1(max);
    Reg total[std::size_t(parts)];
    HEED_UNROLL
    for (int i = 0; i < parts; ++i) total[i] = V::set1(0);
    for (Index k = 0; k < padded; k += 16) {
      HEED_UNROLL
      for (int i = 0; i < parts; ++i) {
        const Reg p = exp<exponential::softmax_bias>(V::sub(V::load(s + k + i * W), m), exponential::softmax_floor);
        V::store(s + k + i * W, p);
        total[i] = V::add(total[i], p);
      }
    }
    const float sum = fold_lanes(total, [](Reg a, Reg b) { return V::add(a, b); });
    return {sum != sum ? sum : max, sum};
  }

  // --- outputs -----------------------------------------------------------------------------------------------------

  /// Writes the first `width` numbers of every row, factors included, to out[k][width].
  template <class C>
  static void decode_rows(const KeyRows& rows, Index width, float* out) {
    using Read = typename C::template Reader<V>;
    const Index whole = width / W * W;
    for (Index k = 0; k < rows.count; ++k, out += width) {
      const std::byte* const row = rows.row[k];
      for (Index d = 0; d < whole; d += W) {
        Reg x = Read::load(row, d);
        if constexpr (C::factors != Factors::none) {
          x = V::mul(V::set1(C::factor(row, rows.factors_of(k), detail::factor_of<C::factors>(d))), x);
        }
        V::store(out + d, x);
      }
      if (whole < width) detail::decode_row<C>(row, rows.factors_of(k), whole, width - whole, out + whole);
    }
  }

  /// panel[k][d] = code first_dim + d of value k, for d in [0, dims); zeros up to a multiple of 16. panel [count][64]
  /// floats, dims <= 64.
  template <class C>
  static void pack_values(const KeyRows& rows, Index first_dim, Index dims, float* panel) {
    using Read = typename C::template Reader<V>;
    const Index whole = dims / W * W, first = rows.offset + first_dim;
    for (Index k = 0; k < rows.count; ++k) {
      float* out = panel + k * panel_dims;
      for (Index d = 0; d < whole; d += W) V::store(out + d, Read::load(rows.row[k], first + d));
      if (whole < dims) C::codes(rows.row[k], first + whole, dims - whole, out + whole);
      detail::fill(out + dims, out + round_up(dims, state_align), 0.0f);
    }
  }

  /// targets[r].out[first_dim + d] = sum over k in `keys` of p[r][k] * panel[k][d], k ascending, one accumulator per
  /// element; then normalised and merged if phase.finish. `dims` is rounded up to a multiple of 16. Rows of p are 256
  /// floats apart. Prefetches `ahead`.
  template <Factors F = Factors::none>
  static void accumulate_panel(const float* p, Index rows, const float* panel, Interval keys, Index first_dim,
                               Index dims, RowTarget* targets, Accumulate phase, const Ahead& ahead,
                               PanelFactors<F> of_panel = {}) {
    const Panel<F> load{panel, of_panel};
    Index loop = 0;
    for_dims<panel_vectors>(dims, [&]<int N>(std::integral_constant<int, N>, Index d) {
      for_row_tiles(rows, [&]<int R>(std::integral_constant<int, R>, Index r) {
        accumulate_tile<R, N>(p + r * chunk_keys, keys, d, first_dim + d, targets + r, phase, load,
                              ahead.begin(loop++, keys.size()));
      });
    });
  }

  /// The same, reading the encoded values where they lie. They must be readable up to whole vectors. Keys are taken in
  /// blocks, so that each value is fetched from memory once for all rows.
  template <class C>
  static void accumulate_rows(const float* p, Index rows, const KeyRows& values, Interval keys, Index first_dim,
                              Index dims, RowTarget* targets, Accumulate phase) {
    const Index block = rows <= 1 ? chunk_keys : 64;
    const auto group = [&]<int R>(std::integral_constant<int, R>, Index r, Interval part, Accumulate here) {
      // Only the first rows find the values in memory; for the others they are in L1.
      const Rows<C> load{values.row, r == 0 ? values.ahead : values.row, values.offset + first_dim, values.factors};
      for_dims<(R == 1 ? 8 : row_accumulators / 4)>(dims, [&]<int N>(std::integral_constant<int, N>, Index d) {
        accumulate_tile<R, N>(p + r * chunk_keys, part, d, first_dim + d, targets + r, here, load, nullptr);
      });
    };
    Index begin = keys.begin;
    do {
      const Interval part{begin, std::min(begin + block, keys.end)};
      const Accumulate here{phase.resume || begin > keys.begin, phase.finish && part.end == keys.end};
      for_few_rows(rows, 0, [&]<int R>(std::integral_constant<int, R> tile, Index r) { group(tile, r, part, here); });
      begin = part.end;
    } while (begin < keys.end);  // at least once: an empty range still starts, parks or finishes
  }

  /// Normalises and merges the sums that accumulate_rows() or accumulate_panel() left with finish = false.
  static void finish(RowTarget* targets, Index rows, Index dims) {
    for (Index r = 0; r < rows; ++r) finish_tile(targets[r], 0, dims);
  }

  /// out[d] = fma(left_weight, left[d], right_weight * right[d]) for d in [0, n). Writes whole vectors.
  static void merge(float left_weight, const float* left, float right_weight, const float* right, Index n, float* out) {
    const Reg a = V::set1(left_weight), b = V::set1(right_weight);
    for (Index d = 0; d < n; d += W) {
      V::store(out + d, V::fma(a, V::load(left + d), V::mul(b, V::load(right + d))));
    }
  }

  /// y = x m, row by row.
  static void linear(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride) {
    LinearLoop<V>::run(m, rows, x, x_stride, y, y_stride);
  }

  /// 2^Bias * exp(x). Exactly 0 if x < floor, where the scaled result would be subnormal. NaN for NaN. Worst error 1.1
  /// ulp on [-87.3, 88].
  template <int Bias = 0>
  [[gnu::always_inline]] static Reg exp(Reg x, float floor = exponential::underflow) {
    using namespace exponential;
    const Reg magic = V::set1(round_magic);
    const Reg shifted = V::fma(x, V::set1(log2e_high), magic);  // round(x log2 e) in the low bits
    const Reg k = V::sub(shifted, magic);
    Reg f;
    if constexpr (V::has_fma) {
      f = V::fma(x, V::set1(log2e_low), V::fma(x, V::set1(log2e_high), V::sub(V::set1(0), k)));
    } else {
      f = V::sub(V::sub(x, V::mul(k, V::set1(ln2_high))), V::mul(k, V::set1(ln2_low)));
      f = V::mul(f, V::set1(log2e_high));
    }
    Reg y = V::fma(V::set1(c6), f, V::set1(c5));
    y = V::fma(y, f, V::set1(c4));
    y = V::fma(y, f, V::set1(c3));
    y = V::fma(y, f, V::set1(c2));
    y = V::fma(y, f, V::set1(c1));
    y = V::fma(y, f, V::set1(1));
    const Reg power = V::floats((V::words(shifted) << 23) + (std::uint32_t(127 + Bias) << 23));
    return V::select_less(x, V::set1(floor), V::set1(0), V::mul(y, power));
  }

  /// tanh(x): an odd polynomial below 0.625 (where 1 - 2 / (e^2x + 1) cancels), exact +-1 for large |x|.
  [[gnu::always_inline]] static Reg tanh(Reg x) {
    const Reg size = V::max(x, V::sub(V::set1(0), x));
    const Reg bounded = V::select_less(V::set1(9.1f), size, V::set1(9.1f), size);  // a NaN stays
    const Reg big = V::sub(V::set1(1), V::div(V::set1(2), V::add(exp(V::add(bounded, bounded)), V::set1(1))));
    const Reg z = V::mul(x, x);
    // tanh(x) = x + x^3 P(x^2), P interpolated at Chebyshev nodes of [0, 0.625^2].
    Reg poly = V::fma(V::set1(-0.00609671418f), z, V::set1(0.0209971797f));
    poly = V::fma(poly, z, V::set1(-0.0538509078f));
    poly = V::fma(poly, z, V::set1(0.133327693f));
    poly = V::fma(poly, z, V::set1(-0.333333284f));
    const Reg near_zero = V::fma(V::mul(poly, z), x, x);
    const Reg signed_big = V::select_less(x, V::set1(0), V::sub(V::set1(0), big), big);
    return V::select_less(size, V::set1(0.625f), near_zero, signed_big);
  }

 private:
  // Folds 16 lanes, which are 16 / W registers: lanes j and j + 8, then j and j + 4, j + 2, j + 1.
  template <class Fold>
  [[gnu::always_inline]] static float fold_lanes(const Reg* part, const Fold& fold) {
    Reg x;
    if constexpr (W == 16) {
      x = fold(part[0], V::template rotate<8>(part[0]));
    } else if constexpr (W == 8) {
      x = fold(part[0], part[1]);
    } else {
      x = fold(fold(part[0], part[2]), fold(part[1], part[3]));
    }
    if constexpr (W > 4) x = fold(x, V::template rotate<4>(x));
    x = fold(x, V::template rotate<2>(x));
    return V::first(fold(x, V::template rotate<1>(x)));
  }

  // `from` may lie outside any object, because prefetch lists run past the last row. The offset is added to an integer:
  // pointer arithmetic there would be undefined.
  [[gnu::always_inline]] static void prefetch(const std::byte* from, Index offset) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(from) + std::uintptr_t(offset)));
  }

  // Cuts `rows` into tiles of 6, then of 4 and 1. 8 rows are two tiles of 4, not 6 + 1 + 1: a small tile has few
  // accumulators, and each waits for its own last addition.
  template <class Tile>
  [[gnu::always_inline]] static void for_row_tiles(Index rows, const Tile& tile) {
    Index r = 0;
    const Index left = rows % 6, sixes = (left == 2 || left == 3) && rows > 6 ? rows / 6 - 1 : rows / 6;
    for (; r < 6 * sixes; r += 6) tile(std::integral_constant<int, 6>{}, r);
    for (; rows - r >= 4; r += 4) tile(std::integral_constant<int, 4>{}, r);
    for (; r < rows; ++r) tile(std::integral_constant<int, 1>{}, r);
  }

  // Cuts the rows from `r` on into tiles of 4, then of 3, 2 or 1: each tile transposes or loads all keys once.
  template <class Tile>
  [[gnu::always_inline]] static void for_few_rows(Index rows, Index r, const Tile& tile) {
    for (; r + 4 <= rows; r += 4) tile(std::integral_constant<int, 4>{}, r);
    switch (rows - r) {
      case 3: return tile(std::integral_constant<int, 3>{}, r);
      case 2: return tile(std::integral_constant<int, 2>{}, r);
      case 1: return tile(std::integral_constant<int, 1>{}, r);
      default: return;
    }
  }

  // Cuts [0, dims) into blocks of N vectors, of 64 numbers and of 16.
  template <int N, class Body>
  static void for_dims(Index dims, const Body& body) {
    Index d = 0;
    dims = round_up(dims, state_align);
    for (; d + N * W <= dims; d += N * W) body(std::integral_constant<int, N>{}, d);
    if constexpr (N * W > 64) {
      for (; d + 64 <= dims; d += 64) body(std::integral_constant<int, 64 / W>{}, d);
    }
    if constexpr (N * W > 16) {
      for (; d + 16 <= dims; d += 16) body(std::integral_constant<int, 16 / W>{}, d);
    }
  }

  // Scores of R rows and panel_vectors vectors of keys of a packed panel. Prefetches one line per dim from `fetch` on.
  // Never inlined: in a large function GCC 12 spills accumulators, which costs a tenth of a prefill.
  template <int R, Factors F>
  [[gnu::noinline]] static void score_panel_tile(const float* q, Index q_stride, const float* panel, Index width,
                                                 float scale, float* s, const std::byte* fetch,
                                                 [[maybe_unused]] PanelFactors<F> factors) {
    constexpr int N = panel_vectors;
    const Index fetch_step = fetch == nullptr ? 0 : 64;
    const Reg zero = V::set1(0);
    for (Index begin = 0; begin < width; begin += score_dims) {
      const Index end = std::min(begin + score_dims, width);
      Reg acc[std::size_t(R)][std::size_t(N)];
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        HEED_UNROLL
        for (int n = 0; n < N; ++n) acc[r][n] = zero;
      }
      for (Index d = begin; d < end; ++d) {
        __builtin_prefetch(fetch, 0, 2);
        fetch += fetch_step;
        Reg k[std::size_t(N)];
        HEED_UNROLL
        for (int n = 0; n < N; ++n) k[n] = V::load(panel + d * panel_keys + n * W);
        HEED_UNROLL
        for (int r = 0; r < R; ++r) {
          const Reg x = V::set1(q[r * q_stride + d]);
          HEED_UNROLL
          for (int n = 0; n < N; ++n) acc[r][n] = V::fma(x, k[n], acc[r][n]);
        }
      }
      const Reg factor = V::set1(end == width ? scale : 1);
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        HEED_UNROLL
        for (int n = 0; n < N; ++n) {
          float* at = s + r * chunk_keys + n * W;
          if constexpr (F == Factors::per_block) {
            const Reg of_block = V::load(factors.at + begin / score_dims * panel_keys + n * W);
            V::store(at, V::mul(V::fma(of_block, acc[r][n], begin == 0 ? zero : V::load(at)), factor));
            continue;
          }
          const Reg sum = begin == 0 ? acc[r][n] : V::add(V::load(at), acc[r][n]);
          if constexpr (F == Factors::per_row) {
            V::store(at, end < width ? sum : V::mul(V::mul(V::load(factors.at + n * W), factor), sum));
            continue;
          }
          V::store(at, V::mul(sum, factor));
        }
      }
    }
  }

  // What one transposed block of a codec's rows holds: whole groups of words, and at most the dims of one accumulator.
  template <class C>
  struct KeyStep {
    using Read = typename C::template Reader<V>;
    static constexpr int words = std::min(block_words, int(score_dims) / Read::group_numbers * Read::group_words);
    static constexpr int numbers = words / Read::group_words * Read::group_numbers;
    static_assert(words == block_words || words == 4, "32 numbers have at least 4 words");
    static_assert(words % Read::group_words == 0 && score_dims % numbers == 0, "a block has whole groups");
    // Number i of each row.
    [[gnu::always_inline]] static Reg number(const Reg* block, int i) {
      return Read::number(block + i / Read::group_numbers * Read::group_words, i % Read::group_numbers);
    }
  };

  // The factors of number `number` of the rows of keys first, first + 1, ...; the last key is repeated.
  template <class C>
  [[gnu::always_inline]] static Reg lane_factors(const KeyRows& keys, Index first, Index number) {
    float of_key[std::size_t(W)];
    for (int j = 0; j < W; ++j) {
      const Index k = std::min(first + j, keys.count - 1);
      of_key[j] = C::factor(keys.row[k], keys.factors_of(k), detail::factor_of<C::factors>(number));
    }
    return V::load(of_key);
  }

  // Scores of R rows and all keys, read where they lie. With 2 or 4 rows of 16-bit numbers two groups of W keys are
  // scored at once: the two numbers of a word are added to the same accumulator one after the other, and one group has
  // too few accumulators to hide that. A single row waits for memory instead. Three rows with two groups spill: one group
  // was 10 % faster at 512 keys.
  template <class C, int R>
  static void score_rows_tile(const float* q, Index q_stride, const KeyRows& keys, Index width, float scale, float* s) {
    using Step = KeyStep<C>;
    constexpr int groups = W == 16 && Step::numbers == 2 * Step::words && (R == 2 || R == 4) ? 2 : 1;
    const Index rest = keys.count % (groups * W);
    const Index last = groups > 1 && rest > 0 && rest <= W ? keys.count - rest : keys.count;
    score_key_groups<C, R, groups>(q, q_stride, keys, {0, last}, width, scale, s);
    if (last < keys.count) score_key_groups<C, R, 1>(q, q_stride, keys, {last, keys.count}, width, scale, s);
  }

  // The same for the keys of `range`, G groups of W keys at once. The last key is repeated up to whole groups.
  template <class C, int R, int G>
  static void score_key_groups(const float* q, Index q_stride, const KeyRows& keys, Interval range, Index width,
                               float scale, float* s) {
    using Step = KeyStep<C>;
    constexpr int lines_per_group = std::max(W * Step::words * 4 / 64, 1);  // of W rows, in one block
    constexpr int numbers_per_line = Step::numbers / lines_per_group;
    const Index first_byte = C::offset_bytes(keys.offset);
    const Index end_byte = first_byte + round_up(detail::view_bytes<C>(keys.offset, width), 4);
    const Index whole = width / Step::numbers * Step::numbers;
    for (Index first = range.begin; first < range.end; first += G * W) {
      const std::byte* row[std::size_t(G * W)];
      for (int j = 0; j < G * W; ++j) row[j] = keys.row[std::min(first + j, range.end - 1)];
      // One line is prefetched per line read, row after row. Where rows lie together this is one stream for the
      // hardware, and all rows of a group arrive in time.
      const std::byte* const* fetch = keys.ahead + first;
      Index fetch_offset = first_byte;
      Reg sum[std::size_t(G)][std::size_t(R)], acc[std::size_t(G)][std::size_t(R)];
      HEED_UNROLL
      for (int g = 0; g < G; ++g) {
        HEED_UNROLL
        for (int r = 0; r < R; ++r) sum[g][r] = V::set1(0);
      }
      for (Index begin = 0; begin < width; begin += score_dims) {
        HEED_UNROLL
        for (int g = 0; g < G; ++g) {
          HEED_UNROLL
          for (int r = 0; r < R; ++r) acc[g][r] = V::set1(0);
        }
        const Index byte = C::offset_bytes(keys.offset + begin);
        // Counted in words, which address numbers and q alike.
        const Index words = std::min(score_dims, whole - begin) / Step::numbers * Step::words;
        for (Index word = 0; word < words; word += Step::words) {
          Reg t[std::size_t(G)][std::size_t(Step::words)];
          HEED_UNROLL
          for (int g = 0; g < G; ++g) V::template load_block<Step::words>(row + g * W, byte + word * 4, t[g]);
          const float* x = q + begin + word * Step::numbers / Step::words;
          HEED_UNROLL
          for (int i = 0; i < Step::numbers; ++i) {
            HEED_UNROLL
            for (int g = 0; g < G; ++g) {
              if (i % numbers_per_line == 0) {
                prefetch(*fetch, fetch_offset);
                fetch_offset += 64;
                if (fetch_offset >= end_byte) {
                  fetch_offset -= end_byte - first_byte;
                  ++fetch;
                }
              }
            }
            HEED_UNROLL
            for (int r = 0; r < R; ++r) {
              const Reg b = V::set1(x[r * q_stride + i]);
              HEED_UNROLL
              for (int g = 0; g < G; ++g) acc[g][r] = V::fma(b, Step::number(t[g], i), acc[g][r]);
            }
          }
        }
        if (whole < width && begin + score_dims >= width) {
          Reg t[std::size_t(G)][std::size_t(Step::words)];
          for (int g = 0; g < G; ++g) V::template load_block<Step::words>(row + g * W, byte + words * 4, t[g]);
          for (Index d = whole; d < width; ++d) {
            HEED_UNROLL
            for (int g = 0; g < G; ++g) {
              const Reg k = Step::number(t[g], int(d - whole));
              HEED_UNROLL
              for (int r = 0; r < R; ++r) acc[g][r] = V::fma(V::set1(q[r * q_stride + d]), k, acc[g][r]);
            }
          }
        }
        [[maybe_unused]] Reg of_block[std::size_t(G)];
        if constexpr (C::factors == Factors::per_block) {
          for (int g = 0; g < G; ++g) of_block[g] = lane_factors<C>(keys, first + g * W, keys.offset + begin);
        }
        HEED_UNROLL
        for (int g = 0; g < G; ++g) {
          HEED_UNROLL
          for (int r = 0; r < R; ++r) {
            if constexpr (C::factors == Factors::per_block) {
              sum[g][r] = V::fma(of_block[g], acc[g][r], sum[g][r]);
            } else {
              sum[g][r] = V::add(sum[g][r], acc[g][r]);
            }
          }
        }
      }
      HEED_UNROLL
      for (int g = 0; g < G; ++g) {
        Reg factor = V::set1(scale);
        if constexpr (C::factors == Factors::per_row) factor = V::mul(lane_factors<C>(keys, first + g * W, 0), factor);
        HEED_UNROLL
        for (int r = 0; r < R; ++r) V::store(s + r * chunk_keys + first + g * W, V::mul(sum[g][r], factor));
      }
    }
  }

  // Values of a packed panel.
  template <Factors F>
  struct Panel {
    static constexpr bool in_place = false;
    static constexpr Factors factors = F;
    const float* panel;
    [[no_unique_address]] PanelFactors<F> of_panel;
    [[gnu::always_inline]] Reg operator()(Index k, Index d) const { return V::load(panel + k * panel_dims + d); }
    [[gnu::always_inline]] void prefetch(Index, Index) const {}
    // The factor of code d of key k.
    [[gnu::always_inline]] float factor(Index k, Index d) const {
      return of_panel.at[detail::factor_of<F>(d) * chunk_keys + k];
    }
  };

  // Values in place. `first` is the number of a row that dim 0 is.
  template <class C>
  struct Rows {
    static constexpr bool in_place = true;
    static constexpr Factors factors = C::factors;
    const std::byte* const* row;
    const std::byte* const* ahead;
    Index first;
    const std::byte* const* entry;
    [[gnu::always_inline]] Reg operator()(Index k, Index d) const {
      return C::template Reader<V>::load(row[k], first + d);
    }
    [[gnu::always_inline]] void prefetch(Index k, Index d) const {
      const Index byte = C::offset_bytes(first + d / C::view_step * C::view_step);
      if ((byte - C::offset_bytes(first)) % 64 == 0) Loops::prefetch(ahead[k], byte);
    }
    [[gnu::always_inline]] float factor(Index k, Index d) const {
      return C::factor(row[k], entry == nullptr ? nullptr : entry[k], detail::factor_of<factors>(first + d));
    }
  };

  // Sums of R rows and N vectors of value dims from `d` on. Prefetches one line per key from `fetch` on, unless it is
  // null.
  template <int R, int N, class Load>
  static void accumulate_tile(const float* p, Interval keys, Index d, Index out_dim, RowTarget* targets,
                              Accumulate phase, const Load& load, const std::byte* fetch) {
    const Index fetch_step = fetch == nullptr ? 0 : 64;
    Reg acc[std::size_t(R)][std::size_t(N)];
    HEED_UNROLL
    for (int r = 0; r < R; ++r) {
      HEED_UNROLL
      for (int n = 0; n < N; ++n) acc[r][n] = V::set1(0);
    }
    if (phase.resume) {
      HEED_UNROLL
      for (int r = 0; r < R; ++r) {
        HEED_UNROLL
        for (int n = 0; n < N; ++n) acc[r][n] = V::load(targets[r].out + out_dim + n * W);
      }
    }
    for (Index k = keys.begin; k < keys.end; ++k) {
      if constexpr (!Load::in_place) {
        __builtin_prefetch(fetch, 0, 2);
        fetch += fetch_step;
      }
      Reg v[std::size_t(N)];
      HEED_UNROLL
      for (int n = 0; n < N; ++n) {
        load.prefetch(k, d + n * W);
        v[n] = load(k, d + n * W);
      }
      if constexpr (Load::factors == Factors::none) {
        HEED_UNROLL
        for (int r = 0; r < R; ++r) {
          const Reg x = V::set1(p[r * chunk_keys + k]);
          HEED_UNROLL
          for (int n = 0; n < N; ++n) acc[r][n] = V::fma(x, v[n], acc[r][n]);
        }
      } else {
        // A tile of fewer dims than a block lies in one block: it begins at a multiple of its own size.
        constexpr int same = Load::factors == Factors::per_row ? N : std::min(N, int(factor_dims) / W);
        Reg factor[std::size_t(N / same)];
        HEED_UNROLL
        for (int n = 0; n < N; n += same) factor[n / same] = V::set1(load.factor(k, d + n * W));
        HEED_UNROLL
        for (int r = 0; r < R; ++r) {
          HEED_UNROLL
          for (int n = 0; n < N; n += same) {
            const Reg x = V::mul(V::set1(p[r * chunk_keys + k]), factor[n / same]);
            HEED_UNROLL
            for (int i = n; i < n + same; ++i) acc[r][i] = V::fma(x, v[i], acc[r][i]);
          }
        }
      }
    }
    HEED_UNROLL
    for (int r = 0; r < R; ++r) {
      float* out = targets[r].out + out_dim;
      HEED_UNROLL
      for (int n = 0; n < N; ++n) V::store(out + n * W, acc[r][n]);
      if (phase.finish) finish_tile(targets[r], out_dim, N * W);
    }
  }

  // The sums are reloaded from L1. Keeping them in registers would spill accumulators and gained nothing.
  static void finish_tile(const RowTarget& target, Index first, Index dims) {
    for (Index d = first; d < first + dims; d += W) {
      Reg x = V::mul(V::set1(target.normalise), V::load(target.out + d));
      for (int j = 0; j < target.merges; ++j) {
        const Merge& m = target.merge[j];
        x = V::fma(V::set1(m.left_weight), V::load(m.left + d), V::mul(V::set1(m.right_weight), x));
      }
      V::store(target.out + d, x);
    }
  }
};

}  // namespace heed::inline HEED_ABI
