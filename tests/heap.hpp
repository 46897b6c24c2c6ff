/// \file
/// The C++ heap as tests see it: it counts, and fails on demand. Works in an executable one file of which includes
/// counting_new.hpp.
#pragma once

#include <atomic>
#include <new>

namespace heed_test {
/// Calls of any operator new so far.
inline std::atomic<long> news{0};
/// Calls with these numbers fail: std::bad_alloc, or null from the forms that do not throw.
inline std::atomic<long> first_failing{-1}, end_failing{-1};

/// While it lives, `failures` calls of operator new fail, from number `skipped` on.
class HeapFails {
 public:
  static constexpr long all = 1L << 40;
  explicit HeapFails(long skipped, long failures = all) noexcept {
    end_failing = news + skipped + failures;
    first_failing = news + skipped;
  }
  HeapFails(const HeapFails&) = delete;
  HeapFails& operator=(const HeapFails&) = delete;
  ~HeapFails() { stop(); }
  void stop() noexcept {
    if (first_failing >= 0) reached_ = news > first_failing;
    first_failing = -1;
  }
  /// Whether a call has failed; once it is stopped.
  [[nodiscard]] bool reached() const noexcept { return reached_; }

 private:
  bool reached_ = false;
};

/// Whether the counter counts: a test that relies on it asks first.
[[nodiscard]] inline bool counts_news() {
  const long before = news.load();
  ::operator delete(::operator new(1));  // unlike `delete new int`, never optimised away
  return news.load() == before + 1;
}
}  // namespace heed_test
