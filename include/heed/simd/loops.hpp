/// \file
/// The inner loops, written once over a vector type `V` (simd/vector_xsimd.hpp, simd/vector_eigen.hpp).
///
/// The arithmetic contract (docs/design.md) fixes the order of the additions. Tile shapes only decide how much is
/// computed at once. simd/scalar.hpp computes the same in plain loops.
#pragma once

#include <heed/simd/decoding.hpp>
#include <heed/simd/functions.hpp>
#include <heed/simd/gates.hpp>
#include <heed/simd/key_panel.hpp>
#include <heed/simd/keys_in_place.hpp>
#include <heed/simd/keys_turned.hpp>
#include <heed/simd/linear.hpp>
#include <heed/simd/logits.hpp>
#include <heed/simd/output_tile.hpp>
#include <heed/simd/ternary/select.hpp>
#include <heed/simd/value_panel.hpp>
#include <heed/simd/values_in_place.hpp>

namespace heed::inline HEED_ABI {

/// A backend: every loop of SimdBackend (concepts.hpp) on the vector type `V`. Each base has the loops of one thing.
template <class V>
struct Loops : Functions<V>,
               LogitLoops<V>,
               KeyPanelLoops<V>,
               KeysInPlaceLoops<V>,
               KeysTurnedLoops<V>,
               ValuePanelLoops<V>,
               ValuesInPlaceLoops<V>,
               DecodingLoops<V>,
               OutputLoops<V> {
  using Vector = V;                             ///< the vector type
  using Reg = typename V::Reg;                  ///< W floats
  static constexpr int W = V::width;            ///< floats of a register
  static constexpr const char* name = V::name;  ///< for reports
  /// Elementwise gates.
  using Gates = GateLoops<V, Functions<V>>;
  /// Products of ternary weights.
  using Ternary = typename detail::TernaryOf<W>::type;

  /// Up to this many query rows may read keys and values in place. More rows read packed panels. With 16 registers tiles of
  /// 8 rows spill, which a panel does not.
  static constexpr Index few_rows = V::registers >= 32 ? 64 : 8;

  /// y = x m, row by row.
  static void linear(const Matrix& m, Index rows, const float* x, Index x_stride, float* y, Index y_stride) {
    detail::LinearLoop<V>::run(m, rows, x, x_stride, y, y_stride);
  }
};

}  // namespace heed::inline HEED_ABI
