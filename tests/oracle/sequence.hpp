/// \file
/// A sequence's queries, keys and values, and attention over what a retention rule left of them.
#pragma once

#include <utility>

#include "oracle/layer.hpp"
#include "oracle/trace.hpp"

namespace oracle {

/// How a key is rotated.
enum class Positions {
  absolute,  ///< by its index in the sequence
  rank,      ///< by its index in the list of keys that the query sees; the query is the last of them
};

struct Sequence {
  Problem heads;  ///< sizes, scale, and q, k, v of every token, not rotated; the rest is not used
  Rotation rotation = {};

  [[nodiscard]] Int tokens() const { return Int(heads.q.size()) / (heads.heads * heads.key_dim); }

  /// All tokens at once under a mask, positions absolute.
  [[nodiscard]] Answer masked(const Visible& visible) const {
    Problem p = heads;
    const Tokens all = range(0, tokens());
    p.q = rotation.rotated(p.q, p.key_dim, all);
    p.k = rotation.rotated(p.k, p.key_dim, all);
    p.visible = visible;
    return attention(p);
  }

  /// One query over a list of keys that ends in its own, from copies of their rows.
  [[nodiscard]] Answer row(Int query, const Tokens& keys, Positions positions) const {
    Problem p = heads;
    const Tokens ranks = range(0, Int(keys.size()));
    p.q = rotation.rotated(rows(heads.q, {query}, p.heads * p.key_dim), p.key_dim,
                           {positions == Positions::rank ? Int(keys.size()) - 1 : query});
    p.k = rotation.rotated(rows(heads.k, keys, p.kv_heads * p.key_dim), p.key_dim,
                           positions == Positions::rank ? ranks : keys);
    p.v = rows(heads.v, keys, p.kv_heads * p.value_dim);
    p.visible = [](Int, Int) { return true; };
    return attention(p);
  }

  /// Fed in calls of these sizes. A call works on what was kept after the last one and its own tokens; each of its rows
  /// sees what it saw in the trace, as far as that is still there.
  [[nodiscard]] Answer decoded(const Trace& steps, const Tokens& calls, Positions positions) const {
    Answer all;
    Tokens cache;
    Int begin = 0;
    for (const Int size : calls) {
      for (Int t = begin; t < begin + size; ++t) cache.push_back(t);
      for (Int t = begin; t < begin + size; ++t) {
        const Tokens& seen = steps.at(std::size_t(t)).seen;
        const Answer one = row(t, where(cache, [&](Int key) { return contains(seen, key); }), positions);
        all.o.insert(all.o.end(), one.o.begin(), one.o.end());
        all.lse.insert(all.lse.end(), one.lse.begin(), one.lse.end());
      }
      begin += size;
      if (begin > 0) cache = where(cache, [&](Int key) { return contains(steps[std::size_t(begin - 1)].kept, key); });
    }
    return all;
  }

 private:
  [[nodiscard]] static Numbers rows(const Numbers& from, const Tokens& tokens, Int width) {
    Numbers some;
    for (const Int t : tokens) some.insert(some.end(), from.begin() + t * width, from.begin() + (t + 1) * width);
    return some;
  }
};

}  // namespace oracle
