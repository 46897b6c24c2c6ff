/// \file
/// What a retention rule does to a sequence fed one token at a time: the truth for every other way of feeding it.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "oracle/attention.hpp"

namespace oracle {

/// Logical indices in ascending order, or token ids.
using Tokens = std::vector<Int>;

/// One token fed: the keys its query saw, its own included, and what the cache held afterwards.
struct Step {
  Tokens seen;
  Tokens kept;
};
using Trace = std::vector<Step>;

/// Whether the key is still needed when the next query is `next`.
using Keep = std::function<bool(Int key, Int next)>;

inline Tokens range(Int begin, Int end) {
  Tokens tokens;
  for (Int t = begin; t < end; ++t) tokens.push_back(t);
  return tokens;
}
/// The tokens of a list for which something holds, in order.
template <class Holds>
Tokens where(const Tokens& tokens, Holds&& holds) {
  Tokens some;
  for (const Int t : tokens) {
    if (holds(t)) some.push_back(t);
  }
  return some;
}
inline bool contains(const Tokens& ascending, Int token) {
  return std::binary_search(ascending.begin(), ascending.end(), token);
}
inline bool contains_all(const Tokens& ascending, const Tokens& tokens) {
  return std::includes(ascending.begin(), ascending.end(), tokens.begin(), tokens.end());
}

/// A rule that is a mask: the cache takes the token, the query looks at what the cache still has, the cache forgets.
inline Trace trace(Int tokens, const Visible& visible, const Keep& keep) {
  Trace steps;
  Tokens cache;
  for (Int t = 0; t < tokens; ++t) {
    cache.push_back(t);
    Step step;
    step.seen = where(cache, [&](Int key) { return visible(t, key); });
    cache = where(cache, [&](Int key) { return keep(key, t + 1); });
    step.kept = cache;
    steps.push_back(std::move(step));
  }
  return steps;
}

/// What the queries of a trace saw, as a mask.
inline Visible seen_in(Trace steps) {
  return [steps = std::move(steps)](Int query, Int key) { return contains(steps.at(std::size_t(query)).seen, key); };
}

/// The shortest prefix to which the first `count` tokens can be cut back: from there on, everything that was held at
/// that length is still held.
inline Int rollback_floor(const Trace& steps, Int count) {
  const auto kept = [&](Int length) { return length == 0 ? Tokens{} : steps.at(std::size_t(length - 1)).kept; };
  Int floor = count;
  while (floor > 0 && contains_all(kept(count), kept(floor - 1))) --floor;
  return floor;
}

}  // namespace oracle
