#include <array>

#include <heed/simd/xsimd.hpp>

#include "bit_linear.hpp"

namespace bench {
namespace {

/// The backend with other ternary loops than its own.
template <class T>
struct With : heed::Xsimd<> {
  using Ternary = T;  // not "Loops", which is the name of a base
};

template <class Backend, class L>
void add_loops(const char* name) {
  add_bit_linear<Backend, L>({.out = 70, .in = 333, .smoke = true}, name);
  add_bit_linear<Backend, L>({.out = 70, .in = 333, .tokens = 21, .smoke = true}, name);
  add_bit_linear<Backend, L>({.out = 6912, .in = 2560, .threads = {1}}, name);
}

template <class L>
void add_layout() {
  using Backend = heed::Xsimd<>;
  for (const Index tokens : {1, 3, 21}) {
    add_bit_linear<Backend, L>({.out = 70, .in = 333, .tokens = tokens, .smoke = true});
  }
  // Of MatMul-free LM 2.7B: MLGRU's projections, the halves of gate and up, down, and gate and up.
  constexpr std::array<Index, 2> shapes[] = {{2560, 2560}, {6912, 2560}, {2560, 6912}, {13824, 2560}};
  for (const bool cold : {false, true}) {
    for (const auto& [out, in] : shapes) add_bit_linear<Backend, L>({.out = out, .in = in, .cold = cold});
  }
  for (const Index tokens : {4, 16, 64}) add_bit_linear<Backend, L>({.out = 2560, .in = 2560, .tokens = tokens});
  for (const auto& [out, in] : shapes) add_bit_linear<Backend, L>({.out = out, .in = in, .tokens = 512});
#if defined(__AVX2__)
  add_loops<With<heed::TernaryAvx2>, L>("avx2");
#endif
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
  add_loops<With<heed::TernaryVnni256>, L>("avx-vnni");
#endif
}

}  // namespace

const bool xsimd_bit_linear_added = [] {
  heed::TernaryLayouts::for_each([]<class L>() { add_layout<L>(); });
  return true;
}();

}  // namespace bench
