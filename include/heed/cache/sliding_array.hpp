/// \file
/// A queue in contiguous memory, whose allocations can fail. For caches, which evict at the front and grow at the back.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>

#include <heed/memory.hpp>

namespace heed::inline HEED_ABI::detail {

/// A queue of elements [0, size()). Removing at the front moves nothing. To make room at the back, all elements move to
/// the front if half of the memory is unused; otherwise twice the memory is allocated. So a queue of bounded size stops
/// allocating.
///
/// Growth can be undone without memory: try_back() keeps the old block until settle() frees it or revert() returns to it.
template <class T>
  requires std::is_trivially_copyable_v<T>
class SlidingArray {
 public:
  SlidingArray() = default;
  /// Takes over the memory. `other` is left empty.
  SlidingArray(SlidingArray&& other) noexcept { swap(other); }
  SlidingArray& operator=(SlidingArray&& other) noexcept {
    SlidingArray taken(std::move(other));
    swap(taken);
    return *this;
  }

  /// Number of elements.
  [[nodiscard]] Index size() const noexcept { return size_; }
  /// true without elements.
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept { return buffer_.size() + before_.size(); }
  /// Element `i`, which must be less than size(), and the last one.
  /// \{
  [[nodiscard]] T& operator[](Index i) noexcept { return data()[i]; }
  [[nodiscard]] const T& operator[](Index i) const noexcept { return data()[i]; }
  [[nodiscard]] T& back() noexcept { return data()[size_ - 1]; }
  [[nodiscard]] const T& back() const noexcept { return data()[size_ - 1]; }
  /// \}
  /// All elements, in one run.
  /// \{
  [[nodiscard]] T* data() noexcept { return reinterpret_cast<T*>(buffer_.data()) + first_; }
  [[nodiscard]] const T* data() const noexcept { return reinterpret_cast<const T*>(buffer_.data()) + first_; }
  [[nodiscard]] std::span<const T> span() const noexcept { return {data(), std::size_t(size_)}; }
  /// \}

  /// Makes room for `count` more elements at the back, or out_of_memory. Room at the front may go.
  [[nodiscard]] Status reserve_back(const MemoryResource& memory, Index count) {
    Status status = try_back(memory, count);
    settle();
    return status;
  }
  /// The same, but revert() can undo it.
  [[nodiscard]] Status try_back(const MemoryResource& memory, Index count) { return try_both(memory, 0, count); }
  /// Room for `front` more elements at the front and `back` more at the back.
  [[nodiscard]] Status try_both(const MemoryResource& memory, Index front, Index back) {
    const Index needed = front + size_ + back;
    if (front <= first_ && first_ + size_ + back <= capacity()) return {};
    if (2 * needed <= capacity()) {
      if (size_ > 0) std::memmove(buffer_.data() + bytes(front), data(), bytes(size_));
      first_ = front;
      return {};
    }
    return reallocate(memory, std::max<Index>(2 * needed, 16), front);
  }
  /// Makes the growth final.
  void settle() noexcept {
    before_ = {};
    grown_ = false;
  }
  /// Returns to the memory of the last settle(). There must be as many elements as then.
  void revert() noexcept {
    if (!grown_) return;
    if (size_ > 0) std::memcpy(before_.data() + bytes(first_before_), data(), bytes(size_));
    buffer_ = std::move(before_);
    first_ = first_before_;
    settle();
  }
  /// The same without spare room.
  [[nodiscard]] Status reserve_exactly(const MemoryResource& memory, Index count) {
    if (first_ + size_ + count <= capacity()) return {};
    Status status = reallocate(memory, size_ + count, 0);
    settle();
    return status;
  }
  /// Makes room for `count` more elements at the front, or out_of_memory.
  [[nodiscard]] Status reserve_front(const MemoryResource& memory, Index count) {
    Status status = try_both(memory, count, 0);
    settle();
    return status;
  }

  /// Gives memory back if more is held than twice what `most` elements need; otherwise does nothing.
  void shrink(const MemoryResource& memory, Index most) noexcept {
    const Index wanted = std::max({2 * most, size_, Index{16}});
    if (capacity() / 2 <= wanted) return;
    static_cast<void>(reallocate(memory, wanted, 0));
    settle();
  }

  /// Adds elements. There must be room: see reserve_back() and reserve_front().
  /// \{
  void push_back(const T& value) noexcept { data()[size_++] = value; }
  void push_front(const T& value) noexcept {
    --first_;
    ++size_;
    data()[0] = value;
  }
  void append(std::span<const T> values) noexcept {
    if (values.empty()) return;
    std::memcpy(data() + size_, values.data(), values.size_bytes());
    size_ += Index(values.size());
  }
  /// \}

  /// Removes the first or the last `count` elements. Keeps the memory.
  /// \{
  void pop_front(Index count) noexcept {
    first_ = count == size_ ? 0 : first_ + count;
    size_ -= count;
  }
  void pop_back(Index count) noexcept { size_ -= count; }
  /// \}
  /// Removes [begin, begin + count).
  void erase(Index begin, Index count) noexcept {
    if (count == 0) return;
    std::memmove(data() + begin, data() + begin + count, bytes(size_ - begin - count));
    size_ -= count;
  }

  /// A copy in one block of its own with room for a few more elements, or out_of_memory.
  [[nodiscard]] Status copy_from(const MemoryResource& memory, const SlidingArray& other) {
    constexpr Index few = 16;
    SlidingArray made;
    if (other.size_ > 0) {
      if (Status status = made.reserve_exactly(memory, other.size_ + few); !status.ok()) return status;
    }
    made.append(other.span());
    swap(made);
    return {};
  }

 private:
  [[nodiscard]] Index capacity() const noexcept { return buffer_.size() / Index(sizeof(T)); }
  [[nodiscard]] static std::size_t bytes(Index count) noexcept { return std::size_t(count) * sizeof(T); }

  [[nodiscard]] Status reallocate(const MemoryResource& memory, Index capacity, Index first) {
    Result<Buffer> buffer = Buffer::allocate(memory, capacity * Index(sizeof(T)), "token index");
    if (!buffer.ok()) return buffer.status();
    if (size_ > 0) std::memcpy(buffer->data() + bytes(first), data(), bytes(size_));
    if (!grown_) {
      before_ = std::move(buffer_);
      first_before_ = first_;
      grown_ = true;
    }
    buffer_ = std::move(*buffer);
    first_ = first;
    return {};
  }
  void swap(SlidingArray& other) noexcept {
    std::swap(buffer_, other.buffer_);
    std::swap(first_, other.first_);
    std::swap(size_, other.size_);
    std::swap(before_, other.before_);
    std::swap(first_before_, other.first_before_);
    std::swap(grown_, other.grown_);
  }

  Buffer buffer_;
  Index first_ = 0;
  Index size_ = 0;
  Buffer before_;  // what buffer_ was at the last settle(), if it has grown since
  Index first_before_ = 0;
  bool grown_ = false;
};

}  // namespace heed::inline HEED_ABI::detail
