/// \file
/// All that heed's loops use of Eigen's packet operations (Eigen 3.4 to 5.x).
#pragma once

#include <Eigen/Core>

#include <heed/simd/registers.hpp>

namespace heed::inline HEED_ABI {

// GCC 12's AVX-512 intrinsics read a variable that they leave uninitialised on purpose, with a mask that ignores it
// (GCC bug 105593). -Wall reports each one that is inlined. What a user calls is not between push and pop.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/// A vector of floats: the widest packet that Eigen has in this translation unit.
struct EigenVector : Registers<Eigen::internal::packet_traits<float>> {
  /// As in XsimdVector.
  /// \{
  using Reg = Eigen::internal::packet_traits<float>::type;
  static constexpr const char* name = "eigen";
  static constexpr int registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS;

  [[gnu::always_inline]] static Reg load(const float* from) { return Eigen::internal::ploadu<Reg>(from); }
  [[gnu::always_inline]] static void store(float* to, Reg x) { Eigen::internal::pstoreu(to, x); }
  [[gnu::always_inline]] static Reg set1(float x) { return Eigen::internal::pset1<Reg>(x); }
  [[gnu::always_inline]] static Reg add(Reg a, Reg b) { return Eigen::internal::padd(a, b); }
  [[gnu::always_inline]] static Reg sub(Reg a, Reg b) { return Eigen::internal::psub(a, b); }
  [[gnu::always_inline]] static Reg mul(Reg a, Reg b) { return Eigen::internal::pmul(a, b); }
  [[gnu::always_inline]] static Reg div(Reg a, Reg b) { return Eigen::internal::pdiv(a, b); }
  [[gnu::always_inline]] static Reg fma(Reg a, Reg b, Reg c) { return Eigen::internal::pmadd(a, b, c); }
  [[gnu::always_inline]] static Reg max(Reg a, Reg b) { return Eigen::internal::pmax(a, b); }
  [[gnu::always_inline]] static Reg select_less(Reg x, Reg y, Reg a, Reg b) {
    return Eigen::internal::pselect(Eigen::internal::pcmp_lt(x, y), a, b);
  }
  /// \}
};

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic pop
#endif

}  // namespace heed::inline HEED_ABI
