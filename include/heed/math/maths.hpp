/// \file
/// The maths of heed.
#pragma once

#include <heed/list.hpp>
#include <heed/math/bf16.hpp>
#include <heed/math/f32.hpp>

namespace heed::inline HEED_ABI {

/// Every math of the library, the default first. A new math is an entry here.
using Maths = List<math::F32, math::Bf16>;

}  // namespace heed::inline HEED_ABI
