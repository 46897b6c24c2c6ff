/// \file
/// What is measured of a codec. Included only by the files that CMakeLists.txt makes from the lists.
#pragma once

#include <type_traits>

#include <heed/codec/codecs.hpp>
#include <heed/compiled.hpp>
#include <heed/math/maths.hpp>
#include <heed/simd/backends.hpp>

#include "attention.hpp"
#include "model_step.hpp"

namespace bench {

/// The fastest backend: everything in bf16, in which models are stored; decode and prefill in the exact codec; a few points
/// in every other codec.
template <class C>
void add_of_fastest(const heed::Kernel& kernel) {
  if constexpr (std::is_same_v<C, heed::Bf16>) {
    add_all_decode<C>(kernel);
    add_all_verify<C>(kernel);
    add_all_prefill<C>(kernel);
    add_all_model_steps<C>(kernel);
  } else if constexpr (std::is_same_v<C, heed::Codecs::First>) {
    add_all_decode<C>(kernel);
    add_all_prefill<C>(kernel);
  } else {
    for (const Index keys : {4096, 32768}) add<C>(kernel, gqa(), {.group = "decode", .keys = keys});
    add<C>(kernel, mla(), {.group = "decode", .keys = 4096});
  }
}

/// Another backend. A few points: the loops are the same, and only a difference to the fastest would be news.
template <class C>
void add_of_other(const heed::Kernel& kernel) {
  for (const Index keys : {4096, 32768}) {
    add<C>(kernel, gqa(), {.group = "decode", .keys = keys, .threads = {1}});
  }
  add<C>(kernel, mla(), {.group = "decode", .keys = 4096, .threads = {1}});
  add<C>(kernel, gqa(), {.group = "prefill", .queries = 512, .keys = 512, .threads = {1}});
}

/// In the default math every codec on the fastest backend, and bf16 on the others. The other maths have bf16 rows on the
/// fastest backend.
template <class C, class Backend, class Math>
void add_attention_in() {
  constexpr bool is_bf16 = std::is_same_v<C, heed::Bf16>;
  constexpr bool is_fastest = std::is_same_v<Backend, heed::Backends::First>;
  constexpr bool is_default = std::is_same_v<Math, heed::Maths::First>;
  if constexpr (is_fastest ? is_bf16 || is_default : is_bf16 && is_default) {
    const heed::Kernel& kernel = heed::kernel<Backend, C, C, Math>();
    add_smoke<C>(kernel);
    add_smoke_steps<C>(kernel);
    if constexpr (is_fastest) {
      add_of_fastest<C>(kernel);
    } else if constexpr (std::is_same_v<Backend, heed::Scalar>) {
      // The readable definition of the loops; how much slower it is tells what the backends are worth.
      add<C>(kernel, gqa(), {.group = "decode", .keys = 4096, .threads = {1}});
    } else {
      add_of_other<C>(kernel);
    }
  }
}

template <class C>
bool add_attention() {
  heed::Backends::for_each(
      []<class Backend>() { heed::Maths::for_each([]<class Math>() { add_attention_in<C, Backend, Math>(); }); });
  return true;
}

}  // namespace bench
