/// \file
/// In which order a register tile holds the sums of value dims.
#pragma once

#include <utility>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// The order of dims: N registers of the vector type `V`.
template <class V, int N>
struct PlainOrder {
  /// Reads N * W sums at `from`, and writes them to `to`.
  /// \{
  [[gnu::always_inline]] static void load(const float* from, typename V::Reg* sum) {
    HEED_UNROLL
    for (int n = 0; n < N; ++n) sum[n] = V::load(from + n * V::width);
  }
  [[gnu::always_inline]] static void store(const typename V::Reg* sum, float* to) {
    HEED_UNROLL
    for (int n = 0; n < N; ++n) V::store(to + n * V::width, sum[n]);
  }
  /// \}
};

/// An order in which two registers hold 2 W dims: lane i of register h has dim At{}(h, i). So the loops over keys take
/// numbers as they come in a row's words, and order is made once, when sums are stored.
template <class V, int N, class At>
struct PairedOrder {
  static_assert(N % 2 == 0, "two registers belong together");
  using Reg = typename V::Reg;      ///< W floats
  using Words = typename V::Words;  ///< the same as words

  /// As PlainOrder.
  /// \{
  [[gnu::always_inline]] static void load(const float* from, Reg* sum) {
    HEED_UNROLL
    for (int n = 0; n < N; n += 2) {
      const Words a = V::words(V::load(from + n * V::width)), b = V::words(V::load(from + (n + 1) * V::width));
      sum[n] = shuffle(a, b, [](int i) { return At{}(0, i); });
      sum[n + 1] = shuffle(a, b, [](int i) { return At{}(1, i); });
    }
  }
  [[gnu::always_inline]] static void store(const Reg* sum, float* to) {
    HEED_UNROLL
    for (int n = 0; n < N; n += 2) {
      const Words a = V::words(sum[n]), b = V::words(sum[n + 1]);
      V::store(to + n * V::width, shuffle(a, b, [](int i) { return place_of(i); }));
      V::store(to + (n + 1) * V::width, shuffle(a, b, [](int i) { return place_of(V::width + i); }));
    }
  }
  /// \}

 private:
  static constexpr int place_of(int dim) {
    int place = 0;
    while (At{}(place / V::width, place % V::width) != dim) ++place;
    return place;
  }
  // Lane i of the result is word from(i) of a and b, which are counted together.
  template <class From>
  [[gnu::always_inline]] static Reg shuffle(Words a, Words b, From) {
    return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
      return V::floats((Words)__builtin_shufflevector(a, b, From{}(I)...));
    }
    (std::make_integer_sequence<int, V::width>{});
  }
};

/// PairedOrder if `paired`, else PlainOrder: an odd number of registers has no pairs.
template <class V, int N, class At, bool paired>
struct OrderOf {
  using type = PlainOrder<V, N>;
};
template <class V, int N, class At>
struct OrderOf<V, N, At, true> {
  using type = PairedOrder<V, N, At>;
};

/// Dims 2 i in the first register, dims 2 i + 1 in the second: what shifts make of words with two numbers.
struct EvenThenOdd {
  constexpr int operator()(int reg, int lane) const { return 2 * lane + reg; }
};
/// Of each 8 dims the first four in the first register: what unpack instructions make of halves.
struct FourAndFour {
  constexpr int operator()(int reg, int lane) const { return lane / 4 * 8 + 4 * reg + lane % 4; }
};

}  // namespace heed::inline HEED_ABI::detail
