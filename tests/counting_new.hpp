/// \file
/// Counts what operator new gives and lets it fail, under sanitizers as well. To be included by one file of an executable:
/// it replaces every form of the operator, because a sanitizer has its own of each and would find memory of the one freed
/// by the other.
#pragma once

#include <cstdlib>
#include <new>

#include "heap.hpp"

namespace heed_test {
// Not inlined: GCC would see malloc meet delete, and warn.
[[gnu::noinline]] inline void* counted_new(std::size_t bytes, std::size_t alignment) noexcept {
  const long number = news++;
  if (first_failing >= 0 && number >= first_failing && number < end_failing) return nullptr;
  return std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
}
[[gnu::noinline]] inline void* must(void* block) {
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
[[gnu::noinline]] inline void counted_delete(void* block) noexcept { std::free(block); }
inline constexpr std::size_t default_alignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
}  // namespace heed_test

// NOLINTBEGIN(misc-definitions-in-headers)
// clang-format off
#define HEED_TEST_NEW(form)                                                                                            \
  void* operator form(std::size_t n) { return heed_test::must(heed_test::counted_new(n, heed_test::default_alignment)); } \
  void* operator form(std::size_t n, const std::nothrow_t&) noexcept {                                                  \
    return heed_test::counted_new(n, heed_test::default_alignment);                                                     \
  }                                                                                                                     \
  void* operator form(std::size_t n, std::align_val_t a) {                                                              \
    return heed_test::must(heed_test::counted_new(n, std::size_t(a)));                                                  \
  }                                                                                                                     \
  void* operator form(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {                              \
    return heed_test::counted_new(n, std::size_t(a));                                                                   \
  }
#define HEED_TEST_DELETE(form)                                                                                          \
  void operator form(void* p) noexcept { heed_test::counted_delete(p); }                                                \
  void operator form(void* p, std::size_t) noexcept { heed_test::counted_delete(p); }                                   \
  void operator form(void* p, const std::nothrow_t&) noexcept { heed_test::counted_delete(p); }                         \
  void operator form(void* p, std::align_val_t) noexcept { heed_test::counted_delete(p); }                              \
  void operator form(void* p, std::size_t, std::align_val_t) noexcept { heed_test::counted_delete(p); }                 \
  void operator form(void* p, std::align_val_t, const std::nothrow_t&) noexcept { heed_test::counted_delete(p); }
// clang-format on
HEED_TEST_NEW(new)
HEED_TEST_NEW(new[])
HEED_TEST_DELETE(delete)
HEED_TEST_DELETE(delete[])
#undef HEED_TEST_NEW
#undef HEED_TEST_DELETE
// NOLINTEND(misc-definitions-in-headers)
