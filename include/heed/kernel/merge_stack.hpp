/// \file
/// The fixed merge tree, one stack of pending states per query row.
///
/// Node (level k, i) of the tree covers chunks [i 2^k, (i+1) 2^k). Chunks arrive in order; a chunk that completes nodes
/// merges with what waits to its left, lowest level first. Chunks a row does not see are identities and never arrive,
/// so the tree for S keys is a prefix of the tree for more: decode, prefill and verify rows agree bit for bit.
#pragma once

#include <bit>
#include <cstdint>

#include <heed/simd/tile.hpp>
#include <heed/softmax_state.hpp>

namespace heed::inline HEED_ABI {

/// Most states that wait at once when at most `chunks` arrive, whose indices follow each other from anywhere, plus the one
/// being made: one node left of the highest boundary within the run, and right of it a node per bit of what is there.
[[nodiscard]] constexpr int merge_slots(Index chunks) noexcept {
  return int(std::bit_width(std::uint64_t(chunks > 1 ? chunks - 1 : 0))) + 1;
}

/// One row's pending nodes. Outputs lie in `slots` buffers of `slot_stride` floats; this class keeps the numbers.
class MergeStack {
 public:
  void reset() noexcept {
    depth_ = 0;
    used_ = 0;
    reading_ = 0;
  }
  [[nodiscard]] bool empty() const noexcept { return depth_ == 0; }
  /// A slot that holds no pending state.
  [[nodiscard]] int free_slot() const noexcept { return std::countr_one(used_); }

  /// Places a new state of index `chunk` (a chunk, or an aligned run of chunks) and says where its output goes: fills
  /// target.out and target.merge. `slot0` is the row's slot 0. The state becomes pending.
  template <class Backend>
  void push(Index chunk, SoftmaxState state, float* slot0, Index slot_stride, Index width, RowTarget& target) noexcept {
    close<Backend>(chunk, slot0, slot_stride, width);
    target.merges = 0;
    for (int level = 1; depth_ > 0 && ((chunk + 1) & ((Index{1} << level) - 1)) == 0; ++level) {
      if (top().chunk >> level != chunk >> level) continue;
      const MergeWeights w = merge_weights(top().state, state);
      target.merge[target.merges++] = {slot0 + top().slot * slot_stride, w.left, w.right};
      state = w.state;
      pop();
    }
    // The popped slots are still read when the output is written, so take one that was free before.
    const int slot = std::countr_one(used_ | reading_);
    reading_ = 0;
    used_ |= std::uint64_t{1} << slot;
    node_[depth_++] = {chunk, state, slot};
    target.out = slot0 + slot * slot_stride;
  }

  /// Merges everything that is pending, latest first, and returns its state and output.
  template <class Backend>
  SoftmaxState fold(float* slot0, Index slot_stride, Index width, const float** out) noexcept {
    while (depth_ > 1) merge_top<Backend>(slot0, slot_stride, width);
    *out = slot0 + top().slot * slot_stride;
    return top().state;
  }

 private:
  struct Node {
    Index chunk;  // the last one it holds
    SoftmaxState state;
    int slot;
  };

  [[nodiscard]] Node& top() noexcept { return node_[depth_ - 1]; }

  void pop() noexcept {
    const std::uint64_t bit = std::uint64_t{1} << top().slot;
    used_ &= ~bit;
    reading_ |= bit;
    --depth_;
  }

  // Merges pending nodes whose common ancestor ends before `chunk`: needed only after chunks the row does not see.
  template <class Backend>
  void close(Index chunk, float* slot0, Index slot_stride, Index width) noexcept {
    while (depth_ > 1) {
      const auto differ = std::uint64_t(node_[depth_ - 2].chunk ^ top().chunk);
      const int level = int(std::bit_width(differ));
      if (top().chunk >> level == chunk >> level) return;
      merge_top<Backend>(slot0, slot_stride, width);
    }
  }

  template <class Backend>
  void merge_top(float* slot0, Index slot_stride, Index width) noexcept {
    Node& left = node_[depth_ - 2];
    Node& right = top();
    const MergeWeights w = merge_weights(left.state, right.state);
    float* out = slot0 + left.slot * slot_stride;
    Backend::merge(w.left, out, w.right, slot0 + right.slot * slot_stride, width, out);
    left = {right.chunk, w.state, left.slot};
    used_ &= ~(std::uint64_t{1} << right.slot);
    --depth_;
  }

  int depth_ = 0;
  std::uint64_t used_ = 0;
  std::uint64_t reading_ = 0;
  Node node_[max_merges + 2];
};

}  // namespace heed::inline HEED_ABI
