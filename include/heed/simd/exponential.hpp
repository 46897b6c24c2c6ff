/// \file
/// The numbers every backend's exponential and tanh share.
///
/// exp(x) = 2^k * 2^f with k = round(x log2 e) and f in [-1/2, 1/2]. 2^f is a polynomial of degree 6, interpolated at
/// Chebyshev nodes. Its constant term is fixed to 1, so that exp(0) is exactly 1.
#pragma once

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

/// Constants of exp.
namespace exponential {
inline constexpr float log2e_high = 1.44269502162933349609375f;  ///< log2(e) rounded to float
inline constexpr float log2e_low = 1.92596299112661746887e-8f;   ///< log2(e) - log2e_high
/// ln 2 = 355 / 512 + ln2_low (Cody and Waite), for machines without a fused multiply-add: k * ln2_high is exact.
/// \{
inline constexpr float ln2_high = 0.693359375f;
inline constexpr float ln2_low = -2.12194440e-4f;
/// \}
inline constexpr float round_magic = 12582912.0f;  ///< 1.5 * 2^23: adding it rounds to an integer
/// 2^f = 1 + f (c1 + f (c2 + ... )); relative error 2e-8 in float.
/// \{
inline constexpr float c1 = 0.693147182f;
inline constexpr float c2 = 0.240226507f;
inline constexpr float c3 = 0.0555035695f;
inline constexpr float c4 = 0.00961808302f;
inline constexpr float c5 = 0.00133908633f;
inline constexpr float c6 = 0.000154531634f;
/// \}
/// Softmax weights have a factor of 2^-8. So 256 of them sum to at most 1, and no sum of finite values overflows.
inline constexpr int softmax_bias = -8;
/// ln(2^-118). Smaller weights are 0: times 2^-8 they would be subnormal, which is slow and changes no result.
inline constexpr float softmax_floor = -81.791205f;
/// ln(FLT_MIN). Below it an exponential without bias is 0.
inline constexpr float underflow = -87.33654f;
}  // namespace exponential

}  // namespace heed::inline HEED_ABI::detail
