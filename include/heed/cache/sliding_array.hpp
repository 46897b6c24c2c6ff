/// \file
/// A queue in contiguous memory that can fail: bookkeeping of caches that forget at the front and grow at the back.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>

#include <heed/cache/memory.hpp>

namespace heed::inline HEED_ABI {

/// Elements [0, size()). Taking from the front is free; room at the back is made by moving everything to the front if
/// half of the memory is idle, else by allocating twice as much. So a queue of bounded size allocates finitely often.
template <class T>
  requires std::is_trivially_copyable_v<T>
class SlidingArray {
 public:
  SlidingArray() = default;
  SlidingArray(SlidingArray&& other) noexcept { swap(other); }
  SlidingArray& operator=(SlidingArray&& other) noexcept {
    SlidingArray taken(std::move(other));
    swap(taken);
    return *this;
  }

  [[nodiscard]] Index size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept { return buffer_.size(); }
  [[nodiscard]] T& operator[](Index i) noexcept { return data()[i]; }
  [[nodiscard]] const T& operator[](Index i) const noexcept { return data()[i]; }
  [[nodiscard]] T& back() noexcept { return data()[size_ - 1]; }
  [[nodiscard]] const T& back() const noexcept { return data()[size_ - 1]; }
  [[nodiscard]] T* data() noexcept { return reinterpret_cast<T*>(buffer_.data()) + first_; }
  [[nodiscard]] const T* data() const noexcept { return reinterpret_cast<const T*>(buffer_.data()) + first_; }
  [[nodiscard]] std::span<const T> span() const noexcept { return {data(), std::size_t(size_)}; }

  /// Makes room for `count` more elements at the back, or out_of_memory.
  [[nodiscard]] Status reserve_back(const MemoryResource& memory, Index count) {
    const Index needed = size_ + count;
    if (first_ + needed <= capacity()) return {};
    if (2 * needed <= capacity()) {
      std::memmove(buffer_.data(), data(), bytes(size_));
      first_ = 0;
      return {};
    }
    return reallocate(memory, std::max<Index>(2 * needed, 16), 0);
  }
  /// The same without room to spare for later.
  [[nodiscard]] Status reserve_exactly(const MemoryResource& memory, Index count) {
    return first_ + size_ + count <= capacity() ? Status() : reallocate(memory, size_ + count, 0);
  }
  /// Makes room for `count` more elements at the front, or out_of_memory.
  [[nodiscard]] Status reserve_front(const MemoryResource& memory, Index count) {
    if (count <= first_) return {};
    return reallocate(memory, 2 * (size_ + count), count);
  }

  /// Gives memory back if there is more than twice what `most` elements need to slide, or does nothing.
  void shrink(const MemoryResource& memory, Index most) noexcept {
    const Index wanted = std::max({2 * most, size_, Index{16}});
    if (capacity() / 2 > wanted) static_cast<void>(reallocate(memory, wanted, 0));
  }

  // The next four need room.
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

  void pop_front(Index count) noexcept {
    first_ = count == size_ ? 0 : first_ + count;
    size_ -= count;
  }
  void pop_back(Index count) noexcept { size_ -= count; }
  /// Removes [begin, begin + count).
  void erase(Index begin, Index count) noexcept {
    if (count == 0) return;
    std::memmove(data() + begin, data() + begin + count, bytes(size_ - begin - count));
    size_ -= count;
  }

  /// A copy with memory of its own, or out_of_memory.
  [[nodiscard]] Status copy_from(const MemoryResource& memory, const SlidingArray& other) {
    SlidingArray made;
    if (Status status = made.reserve_back(memory, other.size_); !status.ok()) return status;
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
    buffer_ = std::move(*buffer);
    first_ = first;
    return {};
  }
  void swap(SlidingArray& other) noexcept {
    std::swap(buffer_, other.buffer_);
    std::swap(first_, other.first_);
    std::swap(size_, other.size_);
  }

  Buffer buffer_;
  Index first_ = 0;
  Index size_ = 0;
};

}  // namespace heed::inline HEED_ABI
