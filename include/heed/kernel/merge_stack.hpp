/// \file
/// The fixed merge tree, one stack of pending states per query row.
///
/// Node (level k, i) of the tree covers chunks [i 2^k, (i+1) 2^k). Chunks arrive in order. A chunk that completes nodes
/// merges with the states that wait to its left, lowest level first. A chunk that a row does not see never arrives and
/// changes nothing. So the tree over S keys is a prefix of the tree over more keys: decode, prefill and verify rows
/// agree bit for bit.
#pragma once

#include <bit>
#include <cstdint>

#include <heed/floats.hpp>
#include <heed/kernel/softmax_state.hpp>
#include <heed/simd/tile.hpp>

namespace heed::inline HEED_ABI::detail {

/// Upper bound on pending states for a run of `chunks` consecutive chunks starting at any index, plus the state being
/// built. A run crosses one highest power-of-two boundary: at most one node waits to its left, and one per binary digit
/// to its right.
[[nodiscard]] constexpr int merge_places(Index chunks) noexcept {
  return int(std::bit_width(std::uint64_t(chunks > 1 ? chunks - 1 : 0))) + 1;
}

/// One row's pending nodes. Their outputs lie in buffers of the caller, place i at place0 + i * place_stride, `width`
/// floats each; merge_places() says how many places suffice. This class holds the softmax states and the place numbers.
class MergeStack {
 public:
  /// Forgets all pending states.
  void reset() noexcept {
    depth_ = 0;
    used_ = 0;
    reading_ = 0;
  }
  /// true if no state is pending.
  [[nodiscard]] bool empty() const noexcept { return depth_ == 0; }
  /// A place that holds no pending state.
  [[nodiscard]] int free_place() const noexcept { return std::countr_one(used_); }

  /// Makes a new state pending: that of chunk number `chunk`, or of part number `chunk` if all parts have equal size.
  /// Fills target.out, target.merge and target.merges: where the state's output goes, and what it merges with on the
  /// way.
  template <class Backend>
  void push(Index chunk, SoftmaxState state, float* place0, Index place_stride, Index width,
            RowTarget& target) noexcept {
    close<Backend>(chunk, place0, place_stride, width);
    target.merges = 0;
    for (int level = 1; depth_ > 0 && ((chunk + 1) & ((Index{1} << level) - 1)) == 0; ++level) {
      if (top().chunk >> level != chunk >> level) continue;
      const MergeWeights w = merge_weights(top().state, state);
      target.merge[target.merges++] = {place0 + top().place * place_stride, w.left, w.right};
      state = w.state;
      pop();
    }
    // The popped places are read while the output is written, so the output needs a place that was free before.
    const int place = std::countr_one(used_ | reading_);
    reading_ = 0;
    used_ |= std::uint64_t{1} << place;
    node_[depth_++] = {chunk, state, place};
    target.out = place0 + place * place_stride;
  }

  /// The same with a state whose output is known: `from[0 .. width)`. Zeros follow it up to `padded`, the width and
  /// stride of the places. An empty state changes nothing.
  template <class Backend>
  void push_result(Index chunk, const SoftmaxState& state, const float* from, Index width, float* place0, Index padded,
                   RowTarget& target) noexcept {
    if (state.empty()) return;
    target.normalise = 1;
    push<Backend>(chunk, state, place0, padded, padded, target);
    detail::copy(from, from + width, target.out);
    detail::fill(target.out + width, target.out + padded, 0.0f);
    Backend::finish(&target, 1, padded);
  }

  /// Merges all pending states, latest first. Returns the merged state and sets `out` to its output. If empty(), the state
  /// is empty and `out` null.
  template <class Backend>
  SoftmaxState fold(float* place0, Index place_stride, Index width, const float** out) noexcept {
    *out = nullptr;
    if (empty()) return {};
    while (depth_ > 1) merge_top<Backend>(place0, place_stride, width);
    *out = place0 + top().place * place_stride;
    return top().state;
  }

 private:
  struct Node {
    Index chunk;  // the last chunk of the node
    SoftmaxState state;
    int place;
  };

  [[nodiscard]] Node& top() noexcept { return node_[depth_ - 1]; }

  void pop() noexcept {
    const std::uint64_t bit = std::uint64_t{1} << top().place;
    used_ &= ~bit;
    reading_ |= bit;
    --depth_;
  }

  // Merges pending nodes whose common ancestor ends before `chunk`. Happens only where chunks did not arrive.
  template <class Backend>
  void close(Index chunk, float* place0, Index place_stride, Index width) noexcept {
    while (depth_ > 1) {
      const auto differ = std::uint64_t(node_[depth_ - 2].chunk ^ top().chunk);
      const int level = int(std::bit_width(differ));
      if (top().chunk >> level == chunk >> level) return;
      merge_top<Backend>(place0, place_stride, width);
    }
  }

  template <class Backend>
  void merge_top(float* place0, Index place_stride, Index width) noexcept {
    Node& left = node_[depth_ - 2];
    Node& right = top();
    const MergeWeights w = merge_weights(left.state, right.state);
    float* out = place0 + left.place * place_stride;
    Backend::merge(w.left, out, w.right, place0 + right.place * place_stride, width, out);
    left = {right.chunk, w.state, left.place};
    used_ &= ~(std::uint64_t{1} << right.place);
    --depth_;
  }

  int depth_ = 0;
  std::uint64_t used_ = 0;
  std::uint64_t reading_ = 0;
  Node node_[max_merges + 2];
};

}  // namespace heed::inline HEED_ABI::detail
