/// \file
/// Memory with a page without access right behind it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include <heed/types.hpp>

namespace heed_test {

using heed::Index;

/// Bytes that end where a page without access begins: one byte read too far is a crash.
class GuardedBytes {
 public:
  explicit GuardedBytes(Index bytes) {
    const Index page = Index(sysconf(_SC_PAGESIZE));
    size_ = heed::round_up(bytes, page) + page;
    void* memory = mmap(nullptr, std::size_t(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(memory);
    if (mprotect(base_ + size_ - page, std::size_t(page), PROT_NONE) != 0) std::abort();
    data_ = base_ + size_ - page - bytes;
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(base_, std::size_t(size_)); }
  [[nodiscard]] std::byte* data() const { return data_; }

 private:
  std::byte* base_ = nullptr;
  std::byte* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace heed_test
