/// \file
/// SepLLM's streaming cache: initial | separators | past | local, in at most `capacity` places.
///
/// When it is full, the separators of the past move to the second block, which forgets its oldest, and the rest of the
/// past goes. What a query sees depends on all that happened before, so there is no mask without the trace. A key's
/// position is its rank in the list that the query sees, and the query's is the last.
#pragma once

#include <vector>

#include "oracle/marks.hpp"

namespace oracle {

struct SeparatorStream {
  enum class Form {
    manager,    ///< the paper's code: after the step, once the length exceeds the capacity
    sep_cache,  ///< transformers' SepCache: before attention, once the length with the new token reaches the capacity
  };

  Int initial = 0, slots = 0, local = 0, capacity = 0;
  Marks separator = no_marks();
  Form form = Form::manager;
  bool accumulate = true;  ///< otherwise a compression forgets all earlier separators
  bool bounded = true;     ///< otherwise slots and capacity grow by the separators that do not fit

  /// The cache, how many of it are in the second block, and the sizes that may grow.
  struct State {
    Tokens cache;
    Int separators = 0, slots = 0, capacity = 0;
  };
  [[nodiscard]] State empty() const { return {{}, 0, slots, capacity}; }

  void compress(State& state) const {
    const Int length = Int(state.cache.size()), past = initial + state.separators;
    Tokens found, compressed;
    for (Int at = 0; at < length; ++at) {
      const Int token = state.cache[std::size_t(at)];
      if (at < initial) {
        compressed.push_back(token);
      } else if (at < past ? accumulate : at < length - local && separator(token)) {
        found.push_back(token);
      }
    }
    const Int excess = Int(found.size()) - state.slots;
    if (excess > 0 && bounded) found.erase(found.begin(), found.begin() + excess);
    if (excess > 0 && !bounded) state.slots += excess, state.capacity += excess;

    compressed.insert(compressed.end(), found.begin(), found.end());
    compressed.insert(compressed.end(), state.cache.end() - local, state.cache.end());
    state.cache = compressed;
    state.separators = Int(found.size());
  }

  [[nodiscard]] Step step(State& state, Int token) const {
    Step step;
    state.cache.push_back(token);
    const Int length = Int(state.cache.size());
    if (form == Form::sep_cache && length >= state.capacity) compress(state);
    step.seen = state.cache;
    if (form == Form::manager && length > state.capacity) compress(state);
    step.kept = state.cache;
    return step;
  }

  /// SepCache stores a prompt that comes in one call whole, however long; the manager has no prompt.
  [[nodiscard]] Trace trace(Int tokens, Int prompt = 0) const {
    Trace steps;
    State state = empty();
    for (Int t = 0; t < prompt; ++t) {
      state.cache.push_back(t);
      steps.push_back({state.cache, state.cache});
    }
    for (Int t = prompt; t < tokens; ++t) steps.push_back(step(state, t));
    return steps;
  }
};

}  // namespace oracle
