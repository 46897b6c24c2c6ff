/// \file
/// Which tokens of a text are marked: anchors, separators, or a grid that ignores the text.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>

#include "oracle/trace.hpp"

namespace oracle {

/// Whether the token at this index is marked.
using Marks = std::function<bool(Int token)>;

inline Marks no_marks() {
  return [](Int) { return false; };
}
/// Exact equality of token ids: no prefixes, no merged tokens.
inline Marks marked_ids(Tokens ids, Tokens marked) {
  return [ids = std::move(ids), marked = std::move(marked)](Int token) {
    return std::find(marked.begin(), marked.end(), ids.at(std::size_t(token))) != marked.end();
  };
}
/// FixLLM: every `distance`-th token whatever it is. Where the grid begins is not published, so it is said.
inline Marks every(Int distance, Int first) {
  return [distance, first](Int token) { return token >= first && (token - first) % distance == 0; };
}

}  // namespace oracle
