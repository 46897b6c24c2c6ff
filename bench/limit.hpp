/// \file
/// What bounds a call: the name and the unit of each limit. limits.hpp measures them.
#pragma once

namespace bench {

/// A bandwidth, or the peak of one kind of instruction.
enum class Limit { read_dram, read_l3, read_l2, fma_f32, dot_bf16, dot_int8 };
inline constexpr Limit all_limits[] = {Limit::read_dram, Limit::read_l3,  Limit::read_l2,
                                       Limit::fma_f32,   Limit::dot_bf16, Limit::dot_int8};

/// "read_dram" and so on.
[[nodiscard]] constexpr const char* name(Limit limit) {
  switch (limit) {
    case Limit::read_dram: return "read_dram";
    case Limit::read_l3: return "read_l3";
    case Limit::read_l2: return "read_l2";
    case Limit::fma_f32: return "fma_f32";
    case Limit::dot_bf16: return "dot_bf16";
    case Limit::dot_int8: return "dot_int8";
  }
  return "";
}

[[nodiscard]] constexpr bool is_bandwidth(Limit limit) {
  return limit == Limit::read_dram || limit == Limit::read_l3 || limit == Limit::read_l2;
}

/// "GBps" or "GFLOPs": 1e9 bytes or operations (a multiply-add is two) a second.
[[nodiscard]] constexpr const char* unit(Limit limit) { return is_bandwidth(limit) ? "GBps" : "GFLOPs"; }

}  // namespace bench
