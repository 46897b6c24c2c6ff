/// \file
/// A queue that grows by blocks: bookkeeping of a cache that may become very long.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include <heed/cache/sliding_array.hpp>

namespace heed::inline HEED_ABI {

/// Elements [0, size()), as SlidingArray has them, but more than 16 KiB of them lie in blocks of 16 KiB: growth then
/// copies nothing but a table of blocks, and never holds elements twice. Few elements are one SlidingArray.
template <class T>
  requires std::is_trivially_copyable_v<T>
class BlockQueue {
 public:
  static constexpr Index block_size = 16384 / Index(sizeof(T));
  static_assert((block_size & (block_size - 1)) == 0);

  BlockQueue() = default;
  BlockQueue(BlockQueue&& other) noexcept { swap(other); }
  BlockQueue& operator=(BlockQueue&& other) noexcept {
    BlockQueue taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~BlockQueue() { free_blocks(blocks_.size()); }

  [[nodiscard]] Index size() const noexcept { return blocks_.empty() ? few_.size() : size_; }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept {
    return few_.allocated() + blocks_.allocated() + blocks_.size() * block_bytes;
  }
  [[nodiscard]] T& operator[](Index i) noexcept { return *at(i); }
  [[nodiscard]] const T& operator[](Index i) const noexcept { return *at(i); }
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
    if (blocks_.empty() && few_.size() + count <= block_size / 2) return few_.reserve_back(memory, count);
    return add_blocks(memory, count);
  }
  /// The same without room to spare for later.
  [[nodiscard]] Status reserve_exactly(const MemoryResource& memory, Index count) {
    // As reserve_back(), which would otherwise move to blocks what was reserved here.
    if (blocks_.empty() && few_.size() + count <= block_size / 2) return few_.reserve_exactly(memory, count);
    return add_blocks(memory, count);
  }
  /// Makes room for `count` more elements at the front, or out_of_memory.
  [[nodiscard]] Status reserve_front(const MemoryResource& memory, Index count) {
    if (count == 0) return {};
    if (blocks_.empty()) {
      if (few_.size() + count <= block_size / 2) return few_.reserve_front(memory, count);
      if (Status status = add_blocks(memory, 0); !status.ok()) return status;
    }
    const Index lacking = (count - first_ + block_size - 1) / block_size;
    if (lacking <= 0) return {};
    // Blocks behind the last element may come to the front, where there are enough.
    if (Status status = add_blocks(memory, lacking * block_size); !status.ok()) return status;
    T** const all = blocks_.data();
    std::rotate(all, all + blocks_.size() - lacking, all + blocks_.size());
    first_ += lacking * block_size;
    return {};
  }
  /// Gives memory back if there is more than twice what `most` elements need to slide, or does nothing.
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
    const Index needed = (first_ + std::max(size_, most) + block_size - 1) / block_size + 1;
    if (blocks_.size() > 2 * needed) free_blocks(blocks_.size() - needed);
  }

  // The next three need room.
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
    for (const T& value : values) push_back(value);
  }

  /// Blocks that become free serve again at the back.
  void pop_front(Index count) noexcept {
    if (blocks_.empty()) return few_.pop_front(count);
    size_ -= count;
    first_ = size_ == 0 ? 0 : first_ + count;
    T** const all = blocks_.data();
    const Index passed = first_ / block_size;
    if (passed > 0) std::rotate(all, all + passed, all + blocks_.size());
    first_ -= passed * block_size;
  }
  void pop_back(Index count) noexcept {
    if (blocks_.empty()) return few_.pop_back(count);
    size_ -= count;
  }

  /// A copy with memory of its own, or out_of_memory.
  [[nodiscard]] Status copy_from(const MemoryResource& memory, const BlockQueue& other) {
    BlockQueue made;
    if (Status status = made.reserve_back(memory, other.size()); !status.ok()) return status;
    other.for_each_run([&](std::span<const T> run) { made.append(run); });
    swap(made);
    return {};
  }

 private:
  static constexpr Index block_bytes = block_size * Index(sizeof(T));

  [[nodiscard]] T* at(Index i) const noexcept {
    if (blocks_.empty()) return const_cast<T*>(few_.data()) + i;
    const Index place = first_ + i;
    return blocks_[place / block_size] + place % block_size;
  }

  /// Room for `count` more at the back, in blocks from now on.
  [[nodiscard]] Status add_blocks(const MemoryResource& memory, Index count) {
    const bool from_few = blocks_.empty();
    const Index begin = from_few ? 0 : first_, kept = size();
    const Index needed = std::max<Index>(1, (begin + kept + count + block_size - 1) / block_size);
    if (needed <= blocks_.size()) return {};
    memory_ = memory;
    if (Status status = blocks_.reserve_back(memory, needed - blocks_.size()); !status.ok()) return status;
    Index added = 0;
    while (blocks_.size() < needed) {
      void* block = detail::ask_for(memory, block_bytes);
      if (block == nullptr) {
        free_blocks(added);  // few elements must still be found where they are
        return fail(StatusCode::out_of_memory, "token index: cannot allocate ", block_bytes, " bytes");
      }
      blocks_.push_back(static_cast<T*>(block));
      ++added;
    }
    if (!from_few) return {};
    first_ = 0;
    size_ = kept;
    for (Index i = 0; i < kept; ++i) *at(i) = few_[i];
    few_ = {};
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
  }

  SlidingArray<T> few_;      // all elements, as long as there is no block
  SlidingArray<T*> blocks_;  // those in use first
  MemoryResource memory_;
  Index first_ = 0;  // place of element 0 in the blocks
  Index size_ = 0;
};

}  // namespace heed::inline HEED_ABI
