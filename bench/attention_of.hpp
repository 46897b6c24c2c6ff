/// \file
/// What is measured of a backend and a codec. Included only by the files that CMakeLists.txt makes from the lists.
#pragma once

#include <type_traits>

#include <heed/codec/codecs.hpp>
#include <heed/compiled.hpp>
#include <heed/simd/backends.hpp>

#include "attention.hpp"
#include "overhead.hpp"

namespace bench {

/// The fastest backend: everything in bf16, in which models are stored; decode and prefill in the exact codec; a few points
/// in every other codec.
template <class Backend, class C>
void add_of_fastest() {
  if constexpr (std::is_same_v<C, heed::Bf16>) {
    add_all_decode<Backend, C>();
    add_all_verify<Backend, C>();
    add_all_prefill<Backend, C>();
    add_all_overhead<Backend, C>();
  } else if constexpr (std::is_same_v<C, heed::Codecs::First>) {
    add_all_decode<Backend, C>();
    add_all_prefill<Backend, C>();
  } else {
    for (const Index keys : {4096, 32768}) add<Backend, C>(gqa(), {.group = "decode", .keys = keys});
    add<Backend, C>(mla(), {.group = "decode", .keys = 4096});
  }
}

/// Another backend. A few points: the loops are the same, and only a difference to the fastest would be news.
template <class Backend, class C>
void add_of_other() {
  for (const Index keys : {4096, 32768}) add<Backend, C>(gqa(), {.group = "decode", .keys = keys, .threads = {1}});
  add<Backend, C>(mla(), {.group = "decode", .keys = 4096, .threads = {1}});
  add<Backend, C>(gqa(), {.group = "prefill", .queries = 512, .keys = 512, .threads = {1}});
}

template <class Backend, class C>
bool add_attention() {
  add_smoke<Backend, C>();
  if constexpr (std::is_same_v<Backend, heed::Backends::First>) {
    add_of_fastest<Backend, C>();
  } else if constexpr (std::is_same_v<Backend, heed::Scalar>) {
    // The readable definition of the loops; how much slower it is tells what the backends are worth.
    add<Backend, C>(gqa(), {.group = "decode", .keys = 4096, .threads = {1}});
  } else {
    add_of_other<Backend, C>();
  }
  return true;
}

}  // namespace bench
