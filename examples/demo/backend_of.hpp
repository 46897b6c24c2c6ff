/// \file
/// Makes a DemoBackend. Included only by the files that CMakeLists.txt makes.
#pragma once

#include <heed/compiled.hpp>

#include "demo/backends.hpp"
#include "model/mechanisms.hpp"

namespace heed_examples {

template <class B>
DemoBackend demo_backend() {
  DemoBackend backend{B::name, make_network<B>, attach_mtp<B>, {}};
  for (const Mechanism& mechanism : mechanisms<heed::Codecs::First, B>) backend.mechanisms.emplace_back(mechanism.name);
  return backend;
}

}  // namespace heed_examples
