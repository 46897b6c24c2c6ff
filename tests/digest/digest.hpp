/// \file
/// The bits of seeded attention problems as short numbers, so that a change of the code can be seen to change none.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <heed/types.hpp>

namespace heed_digest {

using heed::Index;

/// 64-bit FNV-1a of everything added.
class Digest {
 public:
  void add(std::span<const float> numbers) {
    for (const std::byte byte : std::as_bytes(numbers)) hash_ = (hash_ ^ std::uint64_t(byte)) * 0x100000001b3u;
  }
  [[nodiscard]] std::string text() const {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash_));
    return text;
  }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

/// Seeded numbers, the same on every platform: each is a sum of eight bytes, nearly Gaussian with deviation 1, and exact.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed) {}

  [[nodiscard]] std::uint64_t word() {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  [[nodiscard]] Index below(Index n) { return Index(word() % std::uint64_t(n)); }
  [[nodiscard]] std::vector<float> rows(Index count, float scale = 1) {
    std::vector<float> made;
    for (Index i = 0; i < count; ++i) {
      std::uint64_t bytes = word();
      int sum = -1020;  // 8 * 127.5
      for (int b = 0; b < 8; ++b, bytes >>= 8) sum += int(bytes & 255);
      made.push_back(scale * float(sum) * 0x1p-8f);  // a deviation of 209 / 256
    }
    return made;
  }

 private:
  std::uint64_t state_;
};

/// What one backend makes of one problem.
struct Line {
  std::string problem;  ///< mechanism, codecs, rule, options
  std::string digest;
};

}  // namespace heed_digest
