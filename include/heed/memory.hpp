/// \file
/// Where caches and weights get their memory: an allocator that can fail without exceptions, and a block from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Every block of memory starts at a multiple of this: one cache line, one AVX-512 vector.
inline constexpr Index block_alignment = 64;

/// An allocator as data. Its functions must not throw. `deallocate` gets the bytes and the alignment that `allocate`
/// got. `context` must outlive every user of it.
struct MemoryResource {
  void* context = nullptr;  ///< passed to both functions
  /// Returns a block of `bytes` bytes that begins at a multiple of `alignment`, or null.
  void* (*allocate)(void* context, std::size_t bytes, std::size_t alignment) = nullptr;
  /// Takes back a block that `allocate` returned, never null.
  void (*deallocate)(void* context, void* block, std::size_t bytes, std::size_t alignment) = nullptr;
};

namespace detail {

inline constexpr std::size_t huge_page = std::size_t{2} << 20;

/// Alignment of a block of `bytes` bytes. A block that can hold a huge page begins at one.
constexpr std::align_val_t default_alignment(std::size_t bytes, std::size_t alignment) noexcept {
  return std::align_val_t{bytes >= huge_page && alignment < huge_page ? huge_page : alignment};
}

inline void* default_allocate(void*, std::size_t bytes, std::size_t alignment) {
  void* block = ::operator new(bytes, default_alignment(bytes, alignment), std::nothrow);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Decoding reads the whole cache once per token. With pages of 4 KiB, each page is a TLB miss. This is only advice: a
  // kernel without huge pages may refuse it.
  if (block != nullptr && bytes >= huge_page) {
    static_cast<void>(::madvise(block, bytes & ~std::size_t{4095}, MADV_HUGEPAGE));
  }
#endif
  return block;
}

inline void default_deallocate(void*, void* block, std::size_t bytes, std::size_t alignment) {
  ::operator delete(block, default_alignment(bytes, alignment));
}

}  // namespace detail

/// The memory of operator new. On Linux, blocks of 2 MiB and more ask for huge pages.
[[nodiscard]] inline MemoryResource default_memory() noexcept {
  return {.context = nullptr, .allocate = detail::default_allocate, .deallocate = detail::default_deallocate};
}

namespace detail {
/// invalid_argument naming the function that is missing.
[[nodiscard]] inline Status check_memory(const MemoryResource& memory) {
  if (memory.allocate != nullptr && memory.deallocate != nullptr) return {};
  return fail(StatusCode::invalid_argument, "memory has no ", memory.allocate == nullptr ? "allocate" : "deallocate",
              " function");
}
/// A block of the resource. Null if it has no memory, or if the number of bytes does not fit in a size_t.
[[nodiscard]] inline void* ask_for(const MemoryResource& memory, Index bytes) noexcept {
  if (bytes < 0 || std::uint64_t(bytes) > std::uint64_t(std::numeric_limits<std::ptrdiff_t>::max())) return nullptr;
  return memory.allocate(memory.context, std::size_t(bytes), std::size_t(block_alignment));
}
}  // namespace detail

/// Owns a block of a MemoryResource. Its bytes are uninitialised.
class Buffer {
 public:
  Buffer() = default;
  /// Takes over the block; `other` is left without one.
  Buffer(Buffer&& other) noexcept
      : memory_(other.memory_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    std::swap(memory_, taken.memory_);
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) memory_.deallocate(memory_.context, data_, std::size_t(size_), std::size_t(block_alignment));
  }

  /// Allocates `bytes` bytes; 0 bytes need no allocation. out_of_memory naming `what`.
  [[nodiscard]] static Result<Buffer> allocate(const MemoryResource& memory, Index bytes, const char* what) {
    Buffer buffer;
    if (bytes == 0) return buffer;
    void* block = detail::ask_for(memory, bytes);
    if (block == nullptr) return fail(StatusCode::out_of_memory, what, ": cannot allocate ", bytes, " bytes");
    buffer.memory_ = memory;
    buffer.data_ = static_cast<std::byte*>(block);
    buffer.size_ = bytes;
    return buffer;
  }

  /// The block, aligned to block_alignment; null if size() is 0.
  /// \{
  [[nodiscard]] std::byte* data() noexcept { return data_; }
  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  /// \}
  /// Bytes asked of the resource.
  [[nodiscard]] Index size() const noexcept { return size_; }

 private:
  MemoryResource memory_;
  std::byte* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace heed::inline HEED_ABI
