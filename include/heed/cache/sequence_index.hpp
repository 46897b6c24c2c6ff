/// \file
/// Which tokens of a sequence a cache holds: one index, shared by all layers.
#pragma once

#include <cstdint>
#include <span>

#include <heed/cache/memory.hpp>

namespace heed::inline HEED_ABI {

/// The id of a token whose id was not given.
inline constexpr std::int32_t no_token_id = -1;

/// Slots 0 .. kept() hold the kept tokens in the order of their logical positions. Logical positions count every token
/// ever seen and are never renumbered. No rule evicts yet, so slot and position are the same number.
class SequenceIndex {
 public:
  SequenceIndex() = default;

  /// Room for `capacity` tokens, or out_of_memory.
  [[nodiscard]] static Result<SequenceIndex> create(const MemoryResource& memory, Index capacity) {
    Result<Buffer> ids = Buffer::allocate(memory, capacity * id_bytes, "token ids");
    if (!ids.ok()) return ids.status();
    SequenceIndex index;
    index.ids_ = std::move(*ids);
    return index;
  }

  /// Takes over the tokens of `other`, which must fit.
  void copy(const SequenceIndex& other) noexcept {
    kept_ = other.kept_;
    if (kept_ > 0) std::memcpy(ids_.data(), other.ids_.data(), std::size_t(kept_ * id_bytes));
  }

  [[nodiscard]] Index kept() const noexcept { return kept_; }
  [[nodiscard]] Index seen() const noexcept { return kept_; }
  [[nodiscard]] Index evicted() const noexcept { return 0; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept { return ids_.size(); }

  /// Logical position of the token in `slot`: strictly increasing. Planned slots have one too.
  [[nodiscard]] Index position(Index slot) const noexcept { return slot; }
  /// Ids of the kept tokens; no_token_id where none was given.
  [[nodiscard]] std::span<const std::int32_t> token_ids() const noexcept { return {ids(), std::size_t(kept_)}; }

  /// Sets the ids of the slots after the kept ones, without keeping them yet.
  void plan(std::span<const std::int32_t> tokens) noexcept {
    if (!tokens.empty()) std::memcpy(ids() + kept_, tokens.data(), tokens.size_bytes());
  }
  void plan(Index count) noexcept {
    for (Index i = 0; i < count; ++i) ids()[kept_ + i] = no_token_id;
  }
  /// Keeps `count` planned tokens.
  void keep(Index count) noexcept { kept_ += count; }
  /// Forgets every token at or after logical position `tokens`.
  void truncate(Index tokens) noexcept { kept_ = tokens; }

 private:
  static constexpr Index id_bytes = Index(sizeof(std::int32_t));

  [[nodiscard]] std::int32_t* ids() noexcept { return reinterpret_cast<std::int32_t*>(ids_.data()); }
  [[nodiscard]] const std::int32_t* ids() const noexcept { return reinterpret_cast<const std::int32_t*>(ids_.data()); }

  Buffer ids_;
  Index kept_ = 0;
};

}  // namespace heed::inline HEED_ABI
