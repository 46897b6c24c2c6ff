/// \file
/// All that heed's loops use of xsimd. Works with xsimd 8.1 (Debian 12) to 14.
#pragma once

#include <xsimd/xsimd.hpp>

#include <heed/simd/registers.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
template <class Arch>
struct XsimdRegister {
  using type = typename xsimd::batch<float, Arch>::register_type;
  static constexpr int size = int(xsimd::batch<float, Arch>::size);
};

// The architecture of `Xsimd<>`. If an SVE width is fixed at compile time, xsimd's default would be SVE registers,
// which do not convert to GNU vectors. Such a CPU also has NEON; isa_name() then says NEON.
#if defined(__aarch64__) && defined(__ARM_FEATURE_SVE)
using XsimdArch = xsimd::neon64;
#else
using XsimdArch = xsimd::default_arch;
#endif
}  // namespace detail

// GCC 12's AVX-512 intrinsics read a variable that they leave uninitialised on purpose, with a mask that ignores it
// (GCC bug 105593). -Wall reports each one that is inlined. What a user calls is not between push and pop.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// A vector of floats of xsimd architecture `Arch`.
template <class Arch = detail::XsimdArch>
struct XsimdVector : Registers<detail::XsimdRegister<Arch>> {
  using Batch = xsimd::batch<float, Arch>;      ///< xsimd's type
  using Reg = typename Batch::register_type;    ///< the native register
  static constexpr const char* name = "xsimd";  ///< the backend's name in reports
  /// Number of vector registers of the ISA. It decides the tile shapes.
#if defined(__AVX512F__) || defined(__aarch64__)
  static constexpr int registers = 32;
#else
  static constexpr int registers = 16;
#endif

  /// Memory of any alignment, one number in every lane, and arithmetic lane by lane.
  /// \{
  [[gnu::always_inline]] static Reg load(const float* from) { return Batch::load_unaligned(from); }
  [[gnu::always_inline]] static void store(float* to, Reg x) { Batch(x).store_unaligned(to); }
  [[gnu::always_inline]] static Reg set1(float x) { return Batch(x); }
  [[gnu::always_inline]] static Reg add(Reg a, Reg b) { return Batch(a) + Batch(b); }
  [[gnu::always_inline]] static Reg sub(Reg a, Reg b) { return Batch(a) - Batch(b); }
  [[gnu::always_inline]] static Reg mul(Reg a, Reg b) { return Batch(a) * Batch(b); }
  [[gnu::always_inline]] static Reg div(Reg a, Reg b) { return Batch(a) / Batch(b); }
  /// \}
  /// a * b + c, rounded once where the ISA has a fused multiply-add.
  [[gnu::always_inline]] static Reg fma(Reg a, Reg b, Reg c) {
    if constexpr (XsimdVector::has_fma) return XsimdVector::fused(a, b, c);
    return Batch(a) * Batch(b) + Batch(c);
  }
  /// The larger one, lane by lane. If an operand is NaN, either may be returned.
  [[gnu::always_inline]] static Reg max(Reg a, Reg b) { return xsimd::max(Batch(a), Batch(b)); }
  /// x < y ? a : b, lane by lane. If x or y is NaN, the result is b.
  [[gnu::always_inline]] static Reg select_less(Reg x, Reg y, Reg a, Reg b) {
    return xsimd::select(Batch(x) < Batch(y), Batch(a), Batch(b));
  }
};

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic pop
#endif

}  // namespace heed::inline HEED_ABI
