/// \file
/// StreamingLLM: the first tokens and a window. The paper's mask and the two functions of its code see different numbers
/// of keys, so a result must say which of them is meant.
#pragma once

#include <algorithm>

#include "oracle/trace.hpp"

namespace oracle {

struct Sinks {
  enum class Form {
    mask,              ///< visible(i, j) = j <= i and (j < initial or i - j < window): initial + window keys
    evict_after_step,  ///< the cache's __call__: stores initial + window keys, so a query sees one more
    evict_for_space,   ///< evict_for_space(1) before the step: a query sees initial + window keys
  };

  Int initial = 0, window = 1;

  [[nodiscard]] bool visible(Int query, Int key) const {
    return key <= query && (key < initial || query - key < window);
  }
  [[nodiscard]] bool keep(Int key, Int next) const { return key < initial || next - key < window; }
  [[nodiscard]] Visible mask() const {
    return [*this](Int query, Int key) { return visible(query, key); };
  }

  /// What the cache's __call__ leaves of a list.
  [[nodiscard]] Tokens evicted(const Tokens& cache) const { return room(cache, 0); }
  /// What evict_for_space leaves of a list when `coming` tokens are about to be added.
  [[nodiscard]] Tokens evicted_for_space(const Tokens& cache, Int coming) const { return room(cache, coming); }

  [[nodiscard]] Trace trace(Int tokens, Form form) const {
    if (form == Form::mask) {
      return oracle::trace(tokens, mask(), [this](Int key, Int next) { return keep(key, next); });
    }
    Trace steps;
    Tokens cache;
    for (Int t = 0; t < tokens; ++t) {
      if (form == Form::evict_for_space) cache = evicted_for_space(cache, 1);
      cache.push_back(t);
      const Tokens seen = cache;
      if (form == Form::evict_after_step) cache = evicted(cache);
      steps.push_back({seen, cache});
    }
    return steps;
  }

 private:
  [[nodiscard]] Tokens room(const Tokens& cache, Int coming) const {
    const Int length = Int(cache.size());
    if (length + coming <= initial + window) return cache;
    const Int latest = std::max<Int>(0, window - coming);
    Tokens left(cache.begin(), cache.begin() + std::min(initial, length));
    left.insert(left.end(), cache.end() - latest, cache.end());
    return left;
  }
};

}  // namespace oracle
