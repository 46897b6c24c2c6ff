/// \file
/// A queue that grows by blocks, for the bookkeeping of a cache that may become very long.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include <heed/block_span.hpp>
#include <heed/cache/sliding_array.hpp>

namespace heed::inline HEED_ABI::detail {

/// A queue of elements [0, size()). Up to 8 KiB of elements lie in one SlidingArray, more lie in blocks of 16 KiB.
/// Growth by blocks copies only a table of blocks and never holds elements twice.
template <class T>
  requires std::is_trivially_copyable_v<T>
class BlockQueue {
 public:
  static constexpr Index block_size = BlockSpan<T>::block_size;  ///< elements of a block

  BlockQueue() = default;
  /// Takes over the memory. `other` is left empty.
  BlockQueue(BlockQueue&& other) noexcept { swap(other); }
  BlockQueue& operator=(BlockQueue&& other) noexcept {
    BlockQueue taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~BlockQueue() { free_blocks(blocks_.size()); }

  /// Number of elements.
  [[nodiscard]] Index size() const noexcept { return blocks_.empty() ? few_.size() : size_; }
  /// true without elements.
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept {
    return few_.allocated() + blocks_.allocated() + blocks_.size() * block_bytes;
  }
  /// Element `i`, which must be less than size(), and the last one.
  /// \{
  [[nodiscard]] T& operator[](Index i) noexcept { return *at(i); }
  [[nodiscard]] const T& operator[](Index i) const noexcept { return *at(i); }
  [[nodiscard]] const T& back() const noexcept { return *at(size() - 1); }
  /// \}
  /// All elements, without a copy.
  [[nodiscard]] BlockSpan<T> elements() const noexcept {
    if (blocks_.empty()) return few_.span();
    return {blocks_.data(), first_, size_};
  }
  /// Calls body(span) for runs of elements in order.
  template <class Body>
  void for_each_run(const Body& body) const {
    for (Index i = 0; i < size();) {
      const Index n = blocks_.empty() ? size() : std::min(size() - i, block_size - (first_ + i) % block_size);
      body(std::span<const T>(at(i), std::size_t(n)));
      i += n;
    }
  }

  /// Makes room for `count` more elements at the back, or out_of_memory.
  [[nodiscard]] Status reserve_back(const MemoryResource& memory, Index count) {
    Status status = try_back(memory, count);
    settle();
    return status;
  }
  /// The same, but revert() can undo it if the elements are then the same as now. The old memory is kept until
  /// settle().
  [[nodiscard]] Status try_back(const MemoryResource& memory, Index count) {
    if (blocks_.empty() && few_.size() + count <= block_size / 2) return few_.try_back(memory, count);
    return add_blocks(memory, count);
  }
  /// Makes the growth final.
  void settle() noexcept {
    if (!blocks_.empty()) few_ = {};
    few_.settle();
    blocks_.settle();
    added_ = 0;
  }
  /// Returns to the memory of the last settle(). The elements must be the same.
  void revert() noexcept {
    if (added_ > 0) free_blocks(added_);
    added_ = 0;
    blocks_.revert();
    few_.revert();
  }
  /// As reserve_back(), but without spare room.
  [[nodiscard]] Status reserve_exactly(const MemoryResource& memory, Index count) {
    // The limit is that of reserve_back(), which would otherwise move to blocks what was reserved here.
    if (blocks_.empty() && few_.size() + count <= block_size / 2) return few_.reserve_exactly(memory, count);
    Status status = add_blocks(memory, count);
    settle();
    return status;
  }
  /// Makes room for `count` more elements at the front, or out_of_memory.
  [[nodiscard]] Status reserve_front(const MemoryResource& memory, Index count) {
    if (count == 0) return {};
    if (blocks_.empty() && few_.size() + count <= block_size / 2) return few_.reserve_front(memory, count);
    Status status = blocks_.empty() ? add_blocks(memory, 0) : Status();
    const Index lacking = (count - first_ + block_size - 1) / block_size;
    // Blocks behind the last element may come to the front, where there are enough.
    if (status.ok() && lacking > 0) status = add_blocks(memory, lacking * block_size);
    settle();
    if (!status.ok() || lacking <= 0) return status;
    T** const all = blocks_.data();
    std::rotate(all, all + blocks_.size() - lacking, all + blocks_.size());
    first_ += lacking * block_size;
    return {};
  }
  /// Gives memory back if more is held than twice what `most` elements need; otherwise does nothing.
  void shrink(const MemoryResource& memory, Index most) noexcept {
    if (blocks_.empty()) return few_.shrink(memory, most);
    if (std::max(size_, most) <= block_size / 2) {
      SlidingArray<T> few;
      if (!few.reserve_exactly(memory, std::max(size_, 2 * most)).ok()) return;
      for_each_run([&](std::span<const T> run) { few.append(run); });
      free_blocks(blocks_.size());
      blocks_ = {};
      few_ = std::move(few);
      return;
    }
    const Index needed = blocks_for(first_ + std::max(size_, most)) + 1;
    if (blocks_.size() > 2 * needed) free_blocks(blocks_.size() - needed);
    blocks_.shrink(memory, blocks_.size());
  }

  /// Adds elements. There must be room: see reserve_back() and reserve_front().
  /// \{
  void push_back(const T& value) noexcept {
    if (blocks_.empty()) return few_.push_back(value);
    *at(size_++) = value;
  }
  void push_front(const T& value) noexcept {
    if (blocks_.empty()) return few_.push_front(value);
    --first_;
    ++size_;
    *at(0) = value;
  }
  void append(std::span<const T> values) noexcept {
    if (blocks_.empty()) return few_.append(values);
    while (!values.empty()) {
      const std::size_t room = std::size_t(block_size - (first_ + size_) % block_size);
      const std::size_t n = std::min(room, values.size());
      std::memcpy(at(size_), values.data(), n * sizeof(T));
      size_ += Index(n);
      values = values.subspan(n);
    }
  }
  /// \}

  /// Removes the first `count` elements. Their blocks serve again at the back.
  void pop_front(Index count) noexcept {
    if (blocks_.empty()) return few_.pop_front(count);
    size_ -= count;
    first_ = size_ == 0 ? 0 : first_ + count;
    T** const all = blocks_.data();
    const Index passed = first_ / block_size;
    if (passed > 0) std::rotate(all, all + passed, all + blocks_.size());
    first_ -= passed * block_size;
  }
  /// Removes the last `count` elements. Keeps the memory.
  void pop_back(Index count) noexcept {
    if (blocks_.empty()) return few_.pop_back(count);
    size_ -= count;
  }
  /// Removes [begin, begin + count). Moves the elements after them.
  void erase(Index begin, Index count) noexcept {
    if (count == 0) return;
    if (blocks_.empty()) return few_.erase(begin, count);
    for (Index i = begin; i + count < size_; ++i) *at(i) = *at(i + count);
    size_ -= count;
  }

  /// A copy in memory of its own, each part of which is allocated once, or out_of_memory. Few elements get room for a few
  /// more.
  [[nodiscard]] Status copy_from(const MemoryResource& memory, const BlockQueue& other) {
    BlockQueue made;
    if (other.blocks_.empty()) {
      if (Status status = made.few_.copy_from(memory, other.few_); !status.ok()) return status;
    } else {
      if (Status status = made.reserve_exactly(memory, other.size_); !status.ok()) return status;
      other.for_each_run([&](std::span<const T> run) { made.append(run); });
    }
    swap(made);
    return {};
  }

 private:
  static constexpr Index block_bytes = block_size * Index(sizeof(T));
  [[nodiscard]] static constexpr Index blocks_for(Index elements) noexcept {
    return (elements + block_size - 1) / block_size;
  }

  [[nodiscard]] T* at(Index i) const noexcept {
    if (blocks_.empty()) return const_cast<T*>(few_.data()) + i;
    const Index place = first_ + i;
    return blocks_[place / block_size] + place % block_size;
  }

  /// Room for `count` more at the back, in blocks from now on. Elements that lay in few_ also stay there until
  /// settle().
  [[nodiscard]] Status add_blocks(const MemoryResource& memory, Index count) {
    const bool from_few = blocks_.empty();
    const Index begin = from_few ? 0 : first_, kept = size();
    const Index needed = std::max<Index>(1, blocks_for(begin + kept + count));
    if (needed <= blocks_.size()) return {};
    if (Status status = blocks_.try_back(memory, needed - blocks_.size()); !status.ok()) return status;
    memory_ = memory;
    Index added = 0;
    while (blocks_.size() < needed) {
      void* block = ask_for(memory, block_bytes);
      if (block == nullptr) {
        free_blocks(added);
        if (added_ == 0) blocks_.revert();
        return fail(StatusCode::out_of_memory, "token index: cannot allocate ", block_bytes, " bytes");
      }
      blocks_.push_back(static_cast<T*>(block));
      ++added;
    }
    added_ += added;
    if (!from_few) return {};
    first_ = 0;
    size_ = 0;
    append(few_.span());
    return {};
  }
  void free_blocks(Index count) noexcept {
    for (Index i = blocks_.size() - count; i < blocks_.size(); ++i) {
      memory_.deallocate(memory_.context, blocks_[i], std::size_t(block_bytes), std::size_t(block_alignment));
    }
    blocks_.pop_back(count);
  }
  void swap(BlockQueue& other) noexcept {
    std::swap(few_, other.few_);
    std::swap(blocks_, other.blocks_);
    std::swap(memory_, other.memory_);
    std::swap(first_, other.first_);
    std::swap(size_, other.size_);
    std::swap(added_, other.added_);
  }

  SlidingArray<T> few_;      // all elements if there is no block; between growth and settle() a copy of them
  SlidingArray<T*> blocks_;  // blocks in use come first
  MemoryResource memory_;
  Index first_ = 0;  // place of element 0 in the blocks
  Index size_ = 0;
  Index added_ = 0;  // blocks since the last settle()
};

}  // namespace heed::inline HEED_ABI::detail
