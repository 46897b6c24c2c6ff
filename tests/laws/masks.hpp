/// \file
/// The masks of the laws: heed's own, and users' masks with holes, honest or ignorant in their coverage.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

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

/// What a mask covers, by asking about every pair.
template <class M>
[[nodiscard]] Coverage asked(const M& mask, Interval queries, Interval keys) {
  bool some = false, all = true;
  for (Index q = queries.begin; q < queries.end; ++q) {
    for (Index k = keys.begin; k < keys.end; ++k) {
      const bool seen = mask.visible(q, k);
      some |= seen;
      all &= seen;
    }
  }
  return all ? Coverage::full : some ? Coverage::partial : Coverage::none;
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
               Ignorant<heed::SlidingWindow>, Ignorant<Holes>>
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
[[nodiscard]] inline AnyMask ignorant_holes(std::uint64_t seed) { return {"ignorant holes", Ignorant<Holes>{{seed}}}; }

}  // namespace heed_test
