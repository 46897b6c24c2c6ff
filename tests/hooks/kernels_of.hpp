/// \file
/// Makes the kernels with hooks of two codecs. Included only by the files CMakeLists.txt generates.
#pragma once

#include <heed/hooks.hpp>

#include "hooks/hooked.hpp"
#include "laws/storage_of.hpp"

namespace heed_test {

/// Adds the kernels of some backends for two codecs, if the foreign rows of these laws can be of them.
template <class K, class V, class... Backends>
bool add_hooked() {
  if constexpr (PlainCodec<K> && PlainCodec<V>) {
    static const StorageOf<K, V> storage;
    (all_hooked().push_back({{heed::kernel<Backends, K, V>(), storage},
                             [](AnyHooks& hooks) { return heed::kernel<Backends, K, V>(hooks); },
                             [](float* s, Index count, float cap) { Backends::soft_cap(s, count, cap); }}),
     ...);
  }
  return true;
}

}  // namespace heed_test
