/// \file
/// What attention cannot avoid.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include <heed/concepts.hpp>
#include <heed/kernel/kernel.hpp>
#include <heed/math/maths.hpp>
#include <heed/types.hpp>

#include "bandwidth.hpp"
#include "check.hpp"
#include "math_facts.hpp"
#include "roof.hpp"
#include "shapes.hpp"

namespace bench {

/// (query, key) pairs of the causal mask, per head.
[[nodiscard]] inline double visible_pairs(Index queries, Index keys) {
  return double(queries) * double(keys) - double(queries) * double(queries - 1) / 2;
}

/// Attention of the last `queries` of `keys` tokens, over one of `layers` layers that `threads` threads read in turn and that
/// hold `layer_bytes` bytes each. A row is read once, whatever its query heads. What a policy prepares is made in floats.
template <class P>
[[nodiscard]] Work attention_work(const heed::Kernel& kernel, const P& policy, Index queries, Index keys,
                                  Index layer_bytes, Index layers, Index threads) {
  const heed::AttentionLayout layout = policy.layout();
  const MathFacts facts = math_facts(kernel.math);
  const double multiply_adds = 2 * double(layout.num_heads) * visible_pairs(queries, keys);
  return {.source = source_of(layer_bytes * layers, threads),
          .bytes = double(layer_bytes),
          .operations = {{facts.scores, multiply_adds * double(layout.key_width)},
                         {facts.values, multiply_adds * double(layout.value_width)},
                         {Limit::fma_f32, preparation_flops(policy, keys)}}};
}

/// The error that a kernel's answers may have.
template <class P>
[[nodiscard]] ErrorBound error_bound(const heed::Kernel& kernel, const P& policy) {
  constexpr bool has_made_rows = !std::is_same_v<std::remove_cvref_t<decltype(policy.preparation())>, heed::Identity>;
  const MathFacts facts = math_facts(kernel.math);
  ErrorBound bound = facts.bound;
  if (has_made_rows) bound.logits += facts.prepared;
  if (kernel.key_codec != facts.exact_codec || kernel.value_codec != facts.exact_codec) {  // stored rows are rounded, too
    bound.logits += facts.prepared;
    bound.weights += facts.prepared;
  }
  return bound;
}

/// The kernel in the name of a benchmark: its backend, and its math if that is not the default.
[[nodiscard]] inline std::string loops_name(const heed::Kernel& kernel) {
  const bool is_default = std::string_view(kernel.math) == heed::Maths::First::name;
  return kernel.backend + (is_default ? std::string() : "+" + std::string(kernel.math));
}

}  // namespace bench
