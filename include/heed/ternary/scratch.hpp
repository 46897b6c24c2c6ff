/// \file
/// How ternary layers share one workspace: each takes what it needs, the layers inside it the rest.
#pragma once

#include <heed/ternary/bit_linear.hpp>

namespace heed::inline HEED_ABI::detail {

/// Hands out aligned pieces of memory, or only counts them if there is none.
class Scratch {
 public:
  explicit Scratch(std::byte* data = nullptr) noexcept : data_(data) {}

  [[nodiscard]] float* floats(Index count) noexcept {
    return reinterpret_cast<float*>(take(count * Index(sizeof(float))));
  }
  [[nodiscard]] std::byte* take(Index bytes) noexcept {
    std::byte* const at = data_ == nullptr ? nullptr : data_ + used_;
    used_ += round_up(bytes, block_alignment);
    return at;
  }
  [[nodiscard]] Index used() const noexcept { return used_; }

 private:
  std::byte* data_;
  Index used_ = 0;
};

[[nodiscard]] inline std::span<const float> read_only(const float* data, Index count) noexcept {
  return {data, std::size_t(count)};
}
[[nodiscard]] inline std::span<float> writable(float* data, Index count) noexcept { return {data, std::size_t(count)}; }

}  // namespace heed::inline HEED_ABI::detail
