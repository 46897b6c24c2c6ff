/// \file
/// A view of elements that lie in one array or in blocks.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Elements [0, size()) of an array, or of a BlockQueue. Owns nothing. Not valid any more once the queue takes or gives
/// back memory, or loses elements at the front.
template <class T>
class BlockSpan {
 public:
  /// Elements in 16 KiB.
  static constexpr Index block_size = 16384 / Index(sizeof(T));
  static_assert((block_size & (block_size - 1)) == 0);

  BlockSpan() = default;
  /// Of an array, a vector or a span. Implicit, so that these can be given where a view is asked for.
  template <class Array>
    requires(!std::same_as<Array, BlockSpan> && std::constructible_from<std::span<const T>, const Array&>)
  BlockSpan(const Array& array) noexcept
      : array_(std::span<const T>(array).data()), size_(Index(std::span<const T>(array).size())) {}
  /// Element 0 is at place `first` of the first block.
  BlockSpan(const T* const* blocks, Index first, Index size) noexcept : blocks_(blocks), first_(first), size_(size) {}

  /// Number of elements.
  [[nodiscard]] Index size() const noexcept { return size_; }
  /// Element `i`, which must be less than size().
  [[nodiscard]] const T& operator[](Index i) const noexcept {
    if (blocks_ == nullptr) return array_[i];
    const auto place = std::size_t(first_ + i);
    return blocks_[place / std::size_t(block_size)][place % std::size_t(block_size)];
  }
  /// The first `count` elements.
  [[nodiscard]] BlockSpan first(Index count) const noexcept {
    BlockSpan some = *this;
    some.size_ = count;
    return some;
  }
  /// Index of the first element for which `holds` is false, or size(). `holds` must be true for all elements before it
  /// and false for all after it.
  template <class Holds>
  [[nodiscard]] Index partition_point(const Holds& holds) const noexcept {
    Index begin = 0, end = size_;
    while (begin < end) {
      const Index middle = begin + (end - begin) / 2;
      if (holds((*this)[middle])) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    return begin;
  }

 private:
  const T* array_ = nullptr;
  const T* const* blocks_ = nullptr;  // null: the elements lie in an array
  Index first_ = 0;
  Index size_ = 0;
};

}  // namespace heed::inline HEED_ABI
