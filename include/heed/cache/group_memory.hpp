/// \file
/// How many pages layer groups need from a pool, and how many they hold.
#pragma once

#include <algorithm>
#include <span>

#include <heed/cache/layer_group.hpp>

namespace heed::inline HEED_ABI::detail {

/// Number of further pages of `bytes` bytes that the groups need to hold `tokens` tokens.
[[nodiscard]] inline Index pages_lacking(std::span<const LayerGroup> groups, Index bytes, Index tokens) noexcept {
  Index pages = 0;
  for (const LayerGroup& g : groups) pages += g.near_rows.layout().bytes() == bytes ? g.pages_lacking(tokens) : 0;
  return pages;
}

/// How many tokens, at most `most`, the groups can hold without another page.
[[nodiscard]] inline Index capacity(std::span<const LayerGroup> groups, const PagePool& pool, Index most) noexcept {
  const auto fits = [&](Index tokens) {
    return std::all_of(groups.begin(), groups.end(), [&](const LayerGroup& g) {
      const Index bytes = g.near_rows.layout().bytes();
      return pages_lacking(groups, bytes, tokens) <= pool.free_pages(bytes);
    });
  };
  Index least = 0;
  while (least < most) {
    const Index middle = least + (most - least + 1) / 2;
    if (fits(middle)) {
      least = middle;
    } else {
      most = middle - 1;
    }
  }
  return least;
}

/// Gives memory back that a long prompt left: what stays is enough for what is held, for steps of at most `step` tokens,
/// and for `reserved` tokens. Pages go only if the pool serves these groups `alone`, and where the rule has a bound.
inline void give_back(std::span<LayerGroup> groups, PagePool& pool, bool alone, Index step, Index reserved) noexcept {
  for (LayerGroup& g : groups) g.shrink(pool.metered(), step, reserved);
  for (LayerGroup& g : groups) {
    if (!alone) return;
    const Index bytes = g.near_rows.layout().bytes();
    bool bounded = true;
    Index keep = 0;
    for (const LayerGroup& other : groups) {
      if (other.near_rows.layout().bytes() != bytes) continue;
      const Index most = other.most_pages(step);
      bounded &= most < unlimited;
      if (bounded) keep += std::max(most - other.pages(), other.pages_lacking(reserved));
    }
    if (bounded) pool.trim(bytes, keep);
  }
}

/// Bytes of the groups' pages. Does not look at single pages, of which there may be thousands.
[[nodiscard]] inline Index page_bytes(std::span<const LayerGroup> groups) noexcept {
  Index bytes = 0;
  for (const LayerGroup& g : groups) bytes += g.pages() * PagePool::page_bytes(g.near_rows.layout().bytes());
  return bytes;
}

}  // namespace heed::inline HEED_ABI::detail
