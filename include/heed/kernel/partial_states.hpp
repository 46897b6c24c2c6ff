/// \file
/// Attention over some of the keys, unfinished: what attend_partial() gives and attend_finish() merges.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <heed/kernel/partial_block.hpp>

namespace heed::inline HEED_ABI {

namespace detail {
struct PartialAccess;
}
class PartialView;

/// The states of some queries over some chunks of keys: for each node of the merge tree, query and head
///
///     max = max_j s_j,   sum = sum_j e^(s_j - max),   out = sum_j e^(s_j - max) v_j / sum
///
/// over the node's keys that the query sees, before sink logits and the output map. One block of plain bytes: bytes()
/// can be copied, stored and sent, and assign() reads it again, on a machine of the same byte order.
///
/// It either owns memory and grows when a call needs more, or wraps memory of the caller and never allocates.
/// partial_states_bytes() says how much suffices.
class PartialStates {
 public:
  /// Owns no memory yet.
  PartialStates() = default;
  /// Uses `memory`, which must outlive the states and may have any alignment.
  explicit PartialStates(std::span<std::byte> memory) noexcept
      : memory_(memory), data_(memory_.data()), owned_(false) {}
  /// `other` is left empty.
  PartialStates(PartialStates&& other) noexcept
      : memory_(std::move(other.memory_)),
        data_(std::exchange(other.data_, nullptr)),
        used_(std::exchange(other.used_, 0)),
        owned_(other.owned_) {}
  PartialStates& operator=(PartialStates&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(used_, other.used_);
    std::swap(owned_, other.owned_);
    return *this;
  }
  ~PartialStates() = default;

  /// true if nothing was written yet.
  [[nodiscard]] bool empty() const noexcept { return used_ == 0; }
  /// The sizes, nodes and numbers, as plain bytes. Equal states are equal bytes. Valid until the next change.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, used_}; }
  /// Number of queries.
  [[nodiscard]] Index num_queries() const noexcept { return header().queries; }
  /// Query heads of a query.
  [[nodiscard]] Index num_heads() const noexcept { return header().heads; }
  /// Name of the math that made them, at most its first 63 letters; empty if nothing was written. attend_finish() refuses
  /// another math.
  [[nodiscard]] std::string_view math() const noexcept {
    if (used_ == 0) return {};
    return reinterpret_cast<const char*>(data_ + offsetof(detail::PartialHeader, math_name));
  }
  /// Numbers of one output, which is before the output map.
  [[nodiscard]] Index value_width() const noexcept { return header().width; }
  /// Nodes of the merge tree. Each has a state for every query and head.
  [[nodiscard]] Index num_nodes() const noexcept { return header().nodes; }
  /// The states of queries [first, first + count) alone. attend_finish() checks the numbers.
  [[nodiscard]] PartialView queries(Index first, Index count) const noexcept;

  /// Makes room for `bytes` bytes, so that no later call that needs as many allocates. The states stay. out_of_memory if
  /// memory of the caller is too small or none can be allocated; nothing has then changed.
  Status reserve(std::uint64_t bytes) {
    if (bytes <= memory_.size()) return {};
    if (!owned_) {
      return fail(StatusCode::out_of_memory, "states have ", memory_.size(), " bytes, this call needs ", bytes);
    }
    Workspace grown;
    if (!grown.reserve(bytes).ok()) {
      return fail(StatusCode::out_of_memory, "states: cannot allocate ", bytes, " bytes");
    }
    if (used_ > 0) std::memcpy(grown.data(), data_, used_);
    memory_ = std::move(grown);
    data_ = memory_.data();
    return {};
  }
  /// Takes a copy of the bytes() of other states, which may lie at any address. invalid_argument if they are none. The
  /// sizes and nodes are checked, the numbers are not.
  Status assign(std::span<const std::byte> bytes) {
    if (Status status = detail::check_partial_block(bytes); !status.ok()) return status;
    if (Status status = reserve(bytes.size()); !status.ok()) return status;
    std::memmove(data_, bytes.data(), bytes.size());
    used_ = bytes.size();
    return {};
  }

 private:
  friend struct detail::PartialAccess;

  [[nodiscard]] detail::PartialHeader header() const noexcept {
    detail::PartialHeader header;
    if (used_ > 0) std::memcpy(&header, data_, sizeof header);
    return header;
  }

  Workspace memory_;
  std::byte* data_ = nullptr;
  std::size_t used_ = 0;
  bool owned_ = true;
  bool in_call_ = false;  // a sequence of the call that runs writes here
};

/// The states of all queries of a PartialStates, or of some. Refers to it: it must not move or end before the view.
class PartialView {
 public:
  /// Of nothing: attend_finish() refuses it.
  PartialView() = default;
  /// All queries.
  PartialView(const PartialStates& states) noexcept : states_(&states) {}  // NOLINT(google-explicit-constructor)
  /// `count` queries from query `first` on.
  PartialView(const PartialStates& states, Index first, Index count) noexcept
      : states_(&states), first_(first), count_(count), some_(true) {}

  /// Null: a view of nothing.
  [[nodiscard]] const PartialStates* states() const noexcept { return states_; }
  /// The queries, by their numbers in the states.
  [[nodiscard]] Interval queries() const noexcept {
    if (states_ == nullptr) return {};
    return some_ ? Interval{first_, detail::moved_position(first_, count_)} : Interval{0, states_->num_queries()};
  }

 private:
  const PartialStates* states_ = nullptr;
  Index first_ = 0;
  Index count_ = 0;
  bool some_ = false;
};

inline PartialView PartialStates::queries(Index first, Index count) const noexcept { return {*this, first, count}; }

namespace detail {

/// How the kernel reads and writes states.
struct PartialAccess {
  [[nodiscard]] static PartialHeader header(const PartialStates& states) noexcept { return states.header(); }
  /// The block of states that hold, or will hold, what `sizes` say.
  [[nodiscard]] static PartialBlock block(const PartialStates& states, const PartialHeader& sizes) noexcept {
    return PartialBlock::at(states.data_, sizes);
  }
  /// Marks the states as written by the running call. false if they are marked.
  static bool enter(PartialStates& states) noexcept { return !std::exchange(states.in_call_, true); }
  static void leave(PartialStates& states) noexcept { states.in_call_ = false; }
  /// From here on the states hold a block of these sizes, which there is room for. The caller writes its nodes, positions,
  /// places, states and outs. What lies between them becomes 0, so that equal states are equal bytes.
  static PartialBlock begin(PartialStates& states, const PartialHeader& sizes) noexcept {
    states.used_ = std::size_t(PartialBlock::bytes(sizes));
    const PartialBlock made = block(states, sizes);
    std::memcpy(static_cast<void*>(made.header), &sizes, sizeof sizes);
    std::byte* const ends[] = {reinterpret_cast<std::byte*>(made.positions), reinterpret_cast<std::byte*>(made.places),
                               reinterpret_cast<std::byte*>(made.states), reinterpret_cast<std::byte*>(made.outs),
                               states.data_ + states.used_};
    for (std::byte* const end : ends) {
      if (end > states.data_ + sizeof sizes) std::memset(end - Workspace::alignment, 0, Workspace::alignment);
    }
    return made;
  }
};

}  // namespace detail

}  // namespace heed::inline HEED_ABI
