/// \file
/// The codecs of heed.
#pragma once

#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/codec/f32.hpp>
#include <heed/list.hpp>

namespace heed::inline HEED_ABI {

/// Every codec of the library, the exact one first. A new codec is an entry here. The name of a codec is that of its type in
/// lower case.
using Codecs = List<F32, Bf16, F16>;

}  // namespace heed::inline HEED_ABI
