/// \file
/// The masks of the laws: heed's own, and users' masks with holes, honest or ignorant in their coverage.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <heed/retention/full.hpp>
#include <heed/retention/mask_ref.hpp>
#include <heed/retention/window.hpp>

#include "oracle/attention.hpp"

namespace heed_test {

using heed::Coverage;
using heed::Index;
using heed::Interval;

/// Says `partial` about everything, which is always allowed.
template <heed::AttentionMask M>
struct Ignorant {
  M mask;
  [[nodiscard]] bool visible(Index query, Index key) const { return mask.visible(query, key); }
  [[nodiscard]] Coverage coverage(Interval, Interval) const { return Coverage::partial; }
};

/// What is covered, by asking about every pair.
template <class Visible>
[[nodiscard]] Coverage asked_of(Interval queries, Interval keys, const Visible& visible) {
  bool some = false, all = true;
  for (Index q = queries.begin; q < queries.end; ++q) {
    for (Index k = keys.begin; k < keys.end; ++k) {
      const bool seen = visible(q, k);
      some |= seen;
      all &= seen;
      if (some && !all) return Coverage::partial;
    }
  }
  return all ? Coverage::full : Coverage::none;
}
template <class M>
[[nodiscard]] Coverage asked(const M& mask, Interval queries, Interval keys) {
  return asked_of(queries, keys, [&](Index query, Index key) { return mask.visible(query, key); });
}

/// Random holes: single keys, runs of 64 keys, whole chunks and whole queries are missing, later keys may be visible.
struct Holes {
  std::uint64_t seed = 1;

  [[nodiscard]] bool visible(Index query, Index key) const {
    if (mixed(1, query, 0) % 11 == 0) return false;
    if (mixed(2, query / 3, key / 256) % 4 == 0) return false;
    if (mixed(3, query / 2, key / 256) % 3 == 0) return true;
    if (mixed(4, query, key / 64) % 4 == 0) return false;
    return mixed(5, query, key) % 5 != 0;
  }
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const { return asked(*this, queries, keys); }

 private:
  [[nodiscard]] std::uint64_t mixed(std::uint64_t kind, Index a, Index b) const {
    std::uint64_t x = seed * 0x9e3779b97f4a7c15u + kind;
    for (const Index part : {a, b}) {
      x = (x ^ std::uint64_t(part)) * 0xbf58476d1ce4e5b9u;
      x = (x ^ (x >> 29)) * 0x94d049bb133111ebu;
      x ^= x >> 32;
    }
    return x;
  }
};

/// A SplitMask of plain lists. Positions are tokens; a source may hold all tokens or only what is still seen.
struct Split {
  std::vector<Index> begin = {};    ///< [tokens] the first near key of a query
  std::vector<char> landmark = {};  ///< [tokens] a key that is far where it is not near
  std::vector<char> blind = {};     ///< [tokens] a query that sees no far keys
  Index first_slot = 0;             ///< of token 0
  heed::NearKeys near = {};
  std::vector<Index> far = {};  ///< keys of the source
  std::vector<Index> far_token = {};

  /// The same mask for a source that holds the tokens `kept`: all landmarks, and whatever else.
  [[nodiscard]] Split of(const std::vector<Index>& kept) const {
    Split made = *this;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      if (!landmark[std::size_t(kept[i])]) continue;
      made.far.push_back(Index(i));
      made.far_token.push_back(kept[i]);
    }
    if (kept.empty()) return made;
    std::size_t first = kept.size() - 1;
    while (first > 0 && kept[first - 1] + 1 == kept[first]) --first;
    made.near = {Index(first), first_slot + kept[first]};
    return made;
  }

  [[nodiscard]] bool near_visible(Index query, Index key) const {
    return key <= query && key >= begin[std::size_t(query)];
  }
  [[nodiscard]] bool far_visible(Index query, Index number) const {
    return !blind[std::size_t(query)] && far_token[std::size_t(number)] < begin[std::size_t(query)];
  }
  [[nodiscard]] bool visible(Index query, Index key) const {
    const bool far_seen = landmark[std::size_t(key)] && !blind[std::size_t(query)];
    return key <= query && (key >= begin[std::size_t(query)] || far_seen);
  }
  [[nodiscard]] heed::NearKeys near_keys() const { return near; }
  [[nodiscard]] Index far_keys() const { return Index(far.size()); }
  [[nodiscard]] Index far_key(Index number) const { return far[std::size_t(number)]; }
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const { return asked(*this, queries, keys); }
  [[nodiscard]] Coverage near_coverage(Interval queries, Interval keys) const {
    return asked_of(queries, keys, [this](Index query, Index key) { return near_visible(query, key); });
  }
  [[nodiscard]] Coverage far_coverage(Interval queries, Interval numbers) const {
    return asked_of(queries, numbers, [this](Index query, Index number) { return far_visible(query, number); });
  }
};
static_assert(heed::SplitMask<Split>);

/// One of the masks, by value.
class AnyMask {
 public:
  template <class M>
  AnyMask(std::string name, const M& mask) : name_(std::move(name)), mask_(mask) {}

  [[nodiscard]] const std::string& name() const { return name_; }
  /// Valid while this object stays where it is.
  [[nodiscard]] heed::MaskRef ref() const {
    return std::visit([](const auto& mask) { return heed::MaskRef(mask); }, mask_);
  }
  [[nodiscard]] oracle::Visible visible() const {
    return std::visit(
        [](const auto& mask) -> oracle::Visible {
          return [mask](Index query, Index key) { return mask.visible(query, key); };
        },
        mask_);
  }

 private:
  std::string name_;
  std::variant<heed::Causal, heed::SlidingWindow, heed::Unmasked, Holes, Ignorant<heed::Causal>,
               Ignorant<heed::SlidingWindow>, Ignorant<Holes>, Split, Ignorant<Split>>
      mask_;
};

[[nodiscard]] inline AnyMask causal() { return {"causal", heed::Causal{}}; }
[[nodiscard]] inline AnyMask unmasked() { return {"unmasked", heed::Unmasked{}}; }
[[nodiscard]] inline AnyMask window(Index width) {
  return {"window " + std::to_string(width), heed::SlidingWindow{width}};
}
[[nodiscard]] inline AnyMask holes(std::uint64_t seed) { return {"holes", Holes{seed}}; }
[[nodiscard]] inline AnyMask ignorant_causal() { return {"ignorant causal", Ignorant<heed::Causal>{}}; }
[[nodiscard]] inline AnyMask ignorant_window(Index width) {
  return {"ignorant window " + std::to_string(width), Ignorant<heed::SlidingWindow>{{width}}};
}
[[nodiscard]] inline AnyMask split(const Split& mask) { return {"split", mask}; }
/// Read as one list.
[[nodiscard]] inline AnyMask ignorant_split(const Split& mask) { return {"ignorant split", Ignorant<Split>{mask}}; }
[[nodiscard]] inline AnyMask ignorant_holes(std::uint64_t seed) { return {"ignorant holes", Ignorant<Holes>{{seed}}}; }

}  // namespace heed_test
