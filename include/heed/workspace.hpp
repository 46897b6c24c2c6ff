/// \file
/// Scratch memory of the kernel, owned by the caller.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Scratch for attend(). It either owns memory and grows when a call needs more, or wraps memory of the caller and
/// never allocates. A workspace serves one call at a time. Its contents mean nothing between calls.
class Workspace {
 public:
  /// Alignment of data() in bytes.
  static constexpr std::size_t alignment = 64;

  /// Owns no memory yet; grows when a call needs more.
  Workspace() = default;
  /// Uses `memory`, which must outlive the workspace and may have any alignment. A call that needs more fails with
  /// out_of_memory.
  explicit Workspace(std::span<std::byte> memory) noexcept : owned_(false) {
    void* at = memory.data();
    std::size_t left = memory.size();
    if (std::align(alignment, 1, at, left) == nullptr) return;
    data_ = static_cast<std::byte*>(at);
    size_ = left;
  }

  /// `other` is left without memory.
  Workspace(Workspace&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), owned_(other.owned_) {}
  Workspace& operator=(Workspace&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(owned_, other.owned_);
    return *this;
  }
  ~Workspace() { release(); }

  /// Bytes held.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// The memory, aligned to `alignment`; null if there is none.
  [[nodiscard]] std::byte* data() noexcept { return data_; }

  /// Makes size() at least `bytes`; workspace_bytes() says how many a call needs. If it grows, the old contents are
  /// lost. out_of_memory if memory of the caller is too small or cannot be allocated; the workspace is then unchanged.
  Status reserve(std::uint64_t bytes) {
    if (bytes <= size_) return {};
    if (!owned_) {
      return fail(StatusCode::out_of_memory, "workspace has ", size_, " bytes, this call needs ", bytes);
    }
    // A size_t may have 32 bits, so that a large number would become a small one.
    std::byte* grown = nullptr;
    if (bytes <= std::uint64_t(std::numeric_limits<std::ptrdiff_t>::max())) {
      grown = static_cast<std::byte*>(::operator new (std::size_t(bytes), std::align_val_t{alignment}, std::nothrow));
    }
    if (grown == nullptr) return fail(StatusCode::out_of_memory, "workspace: cannot allocate ", bytes, " bytes");
    release();
    data_ = grown;
    size_ = std::size_t(bytes);
    return {};
  }

 private:
  void release() noexcept {
    if (owned_ && data_ != nullptr) ::operator delete (data_, std::align_val_t{alignment});
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool owned_ = true;
};

namespace detail {

/// Takes typed arrays, aligned to 64 bytes, from one block of bytes. An array beyond its end is null: so with a block
/// that is too small it only counts bytes.
class Carver {
 public:
  /// A block that is large enough. A null base: no block.
  explicit Carver(std::byte* base) noexcept
      : Carver(base, base == nullptr ? 0 : std::numeric_limits<std::uint64_t>::max()) {}
  Carver(std::byte* base, std::uint64_t size) noexcept : base_(base), size_(size) {}
  explicit Carver(Workspace& workspace) noexcept : Carver(workspace.data(), workspace.size()) {}

  template <class T>
  [[nodiscard]] T* take(Index count) noexcept {
    const std::uint64_t begin = (offset_ + 63) / 64 * 64;
    offset_ = begin + std::uint64_t(std::max<Index>(count, 0)) * sizeof(T);
    return offset_ > size_ ? nullptr : reinterpret_cast<T*>(base_ + begin);
  }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return (offset_ + 63) / 64 * 64; }
  /// true if the block has bytes() bytes. Then no array that was taken is null.
  [[nodiscard]] bool fits() const noexcept { return bytes() <= size_; }

 private:
  std::byte* base_;
  std::uint64_t size_;
  std::uint64_t offset_ = 0;  // counts more bytes than a size_t of 32 bits does
};

}  // namespace detail

}  // namespace heed::inline HEED_ABI
