/// \file
/// What a view must know of its cache, in memory that does not move with the cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include <heed/memory.hpp>

namespace heed::inline HEED_ABI::detail {

/// Facts about a cache by which a view decides whether it can be read now. Only the cache writes them.
struct CacheFacts {
  AttentionLayout layout;        ///< of the cache's policy
  Index layers = 0;              ///< number of layers
  bool rotates_keys = false;     ///< keys are stored un-rotated, and the policy turns them when it reads them
  bool step_open = false;        ///< true between begin() and commit() or abort()
  Index step_tokens = 0;         ///< of the open step
  bool asked_positions = false;  ///< positions() of the open step was called; they are wrong for nodes of a tree
  std::uint64_t change = 1;      ///< counts steps opened, steps closed, and whatever else changes what the cache holds

  /// The value of `change` when a stream of a layer was last written. If it equals `change`, the stream was written in
  /// the open step. So a new step need not clear anything.
  /// \{
  [[nodiscard]] std::uint64_t& written(Index layer, int stream) noexcept {
    return reinterpret_cast<std::uint64_t*>(this + 1)[layer * layout.num_streams + stream];
  }
  [[nodiscard]] std::uint64_t written(Index layer, int stream) const noexcept {
    return reinterpret_cast<const std::uint64_t*>(this + 1)[layer * layout.num_streams + stream];
  }
  /// \}
  /// Threads may each ask for the positions of their layers.
  void ask_positions() noexcept { __atomic_store_n(&asked_positions, true, __ATOMIC_RELAXED); }

  /// wrong_state naming the first stream of the layer that the open step has not written.
  [[nodiscard]] Status check_written(const char* what, Index layer) const {
    for (int stream = 0; step_tokens > 0 && stream < layout.num_streams; ++stream) {
      if (written(layer, stream) == change) continue;
      return fail(StatusCode::wrong_state, what, "layer ", layer, ", stream ", stream, " was not written in this step");
    }
    return {};
  }
};

/// Owns the facts of one cache.
class CacheFactsBlock {
 public:
  CacheFactsBlock() = default;

  /// A copy of `facts` with no stream written, or out_of_memory.
  [[nodiscard]] static Result<CacheFactsBlock> create(const MemoryResource& memory, const CacheFacts& facts) {
    const Index marks = facts.layers * facts.layout.num_streams;
    Result<Buffer> block =
        Buffer::allocate(memory, Index(sizeof(CacheFacts)) + marks * Index(sizeof(std::uint64_t)), "cache");
    if (!block.ok()) return block.status();
    CacheFactsBlock made;
    made.block_ = *std::move(block);
    std::construct_at(made.get(), facts);
    std::fill_n(&made.get()->written(0, 0), marks, std::uint64_t{0});
    return made;
  }

  /// The facts. Null in a cache that was moved from.
  /// \{
  [[nodiscard]] CacheFacts* get() noexcept { return reinterpret_cast<CacheFacts*>(block_.data()); }
  [[nodiscard]] const CacheFacts* get() const noexcept { return reinterpret_cast<const CacheFacts*>(block_.data()); }
  [[nodiscard]] CacheFacts* operator->() noexcept { return get(); }
  [[nodiscard]] const CacheFacts* operator->() const noexcept { return get(); }
  /// \}
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index size() const noexcept { return block_.size(); }

 private:
  Buffer block_;
};

}  // namespace heed::inline HEED_ABI::detail
