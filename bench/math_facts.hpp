/// \file
/// What is measured of each math: the instructions that it multiplies with, whose peak is the most that it can do, and the
/// error that its header permits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string_view>

#include <heed/math/maths.hpp>

#include "check.hpp"
#include "limits.hpp"

namespace bench {

struct MathFacts {
  std::string_view math;              ///< its name
  Limit scores = Limit::fma_f32;      ///< queries with keys
  Limit values = Limit::fma_f32;      ///< weights with values
  ErrorBound bound;                   ///< for queries and rows that the math does not round
  std::string_view exact_codec = {};  ///< the codec of rows that the math does not round
  /// Added to bound.logits if keys or values are made, and to both parts if stored rows have another codec: the math rounds
  /// them.
  double prepared = 0;
};

inline constexpr MathFacts all_math_facts[] = {
    {.math = "f32", .scores = Limit::fma_f32, .values = Limit::fma_f32, .bound = {.weights = 0, .logits = 4 * eps32}},
    // A made number is off by 2^-9 of it, so a logit by 2^-9 s, and its weight by twice that.
    {.math = "bf16",
     .scores = Limit::dot_bf16,
     .values = Limit::dot_bf16,
     .bound = {.weights = 0x1p-7 + 0x1p-16, .logits = 16 * eps32},
     .exact_codec = "bf16",
     .prepared = 0x1p-8},
};

[[nodiscard]] constexpr const MathFacts* find_math_facts(std::string_view math) {
  const auto* const at = std::ranges::find(all_math_facts, math, &MathFacts::math);
  return at == std::ranges::end(all_math_facts) ? nullptr : at;
}
// By index: under UBSan GCC 12 does not compare pointers in constant expressions.
static_assert(
    [](auto names) {
      for (const std::string_view name : names) {
        std::size_t i = 0;
        while (i < std::size(all_math_facts) && all_math_facts[i].math != name) ++i;
        if (i == std::size(all_math_facts)) return false;
      }
      return true;
    }(heed::Maths::names()),
    "a math of the list Maths has no line in all_math_facts");

/// Of a math in this build: where an instruction is missing, multiply-adds of floats take its place.
[[nodiscard]] inline MathFacts math_facts(std::string_view math) {
  MathFacts facts = *find_math_facts(math);
  for (Limit* const limit : {&facts.scores, &facts.values}) {
    if (!exists(*limit)) *limit = Limit::fma_f32;
  }
  return facts;
}

}  // namespace bench
