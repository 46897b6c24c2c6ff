/// \file
/// What a fuzzer's bytes mean, and how a target says that something is wrong.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>

/// The bytes end the program, which libFuzzer and replay.cpp report with the input.
#define FUZZ_CHECK(condition, ...)                                                                  \
  do {                                                                                              \
    if (!(condition)) ::heed_fuzz::stop(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)

namespace heed_fuzz {

[[noreturn]] inline void stop(const char* file, int line, const char* condition, const std::string& message = {}) {
  std::fprintf(stderr, "%s:%d: not %s%s%s\n", file, line, condition, message.empty() ? "" : ": ", message.c_str());
  std::abort();
}

/// Reads numbers from the front; zeros after the end. Also a random number engine, for helpers that want one.
class Bytes {
 public:
  using result_type = std::uint64_t;
  [[nodiscard]] static constexpr result_type min() { return 0; }
  [[nodiscard]] static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  Bytes(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

  [[nodiscard]] bool empty() const { return left_.empty(); }
  [[nodiscard]] std::size_t size() const { return left_.size(); }
  template <class T = std::uint64_t>
  [[nodiscard]] T number() {
    T value{};
    const std::size_t count = std::min(sizeof value, left_.size());
    if (count > 0) std::memcpy(&value, left_.data(), count);
    left_ = left_.subspan(count);
    return value;
  }
  result_type operator()() { return number(); }
  /// In [least, most]; uses one byte where that is enough.
  [[nodiscard]] std::int64_t pick(std::int64_t least, std::int64_t most) {
    const auto range = std::uint64_t(most) - std::uint64_t(least) + 1;
    const std::uint64_t drawn = range <= 256 ? number<std::uint8_t>() : number();
    return least + std::int64_t(range == 0 ? drawn : drawn % range);
  }
  [[nodiscard]] bool one_in(std::int64_t n) { return pick(1, n) == n; }
  /// Often a number that breaks sums and products.
  [[nodiscard]] std::int64_t extreme() {
    constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
    constexpr std::int64_t all[] = {0,
                                    1,
                                    -1,
                                    2,
                                    255,
                                    256,
                                    least,
                                    1 << 16,
                                    1 << 20,
                                    1LL << 31,
                                    1LL << 32,
                                    1LL << 62,
                                    -(1 << 20),
                                    least + 1,
                                    least / 2 - 1,
                                    std::numeric_limits<std::int64_t>::max()};
    const std::int64_t drawn = pick(0, 31);
    return drawn < std::int64_t(std::size(all)) ? all[drawn] : pick(-300, 300);
  }
  [[nodiscard]] std::span<const std::uint8_t> rest() { return std::exchange(left_, {}); }

 private:
  std::span<const std::uint8_t> left_;
};

}  // namespace heed_fuzz

/// Each target defines it: libFuzzer's entry, and what replay.cpp calls.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
