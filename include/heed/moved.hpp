/// \file
/// Sizes of objects that own memory. An object that was moved from has no memory, so its sizes must become 0.
#pragma once

#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// A size, or a description, of memory that the same object owns. Like a T, but moving from it makes it T(), as in an
/// object that was default-made.
template <class T>
class UntilMoved {
 public:
  UntilMoved() = default;
  UntilMoved(const T& value) noexcept : value_(value) {}  // NOLINT(google-explicit-constructor)
  UntilMoved(UntilMoved&& other) noexcept : value_(other.value_) { other.value_ = T(); }
  UntilMoved& operator=(UntilMoved&& other) noexcept {
    const T value = other.value_;
    other.value_ = T();
    value_ = value;
    return *this;
  }
  ~UntilMoved() = default;

  operator const T&() const noexcept { return value_; }  // NOLINT(google-explicit-constructor)
  [[nodiscard]] const T& operator*() const noexcept { return value_; }
  [[nodiscard]] const T* operator->() const noexcept { return &value_; }

 private:
  T value_ = T();
};

/// wrong_state naming `layer` unless its width is at least 1. It is 0 if the layer was moved from or only default-made.
[[nodiscard]] inline Status check_made(const char* layer, Index width) {
  if (width >= 1) return {};
  return fail(StatusCode::wrong_state, layer, ": it was moved from, or was never created");
}

}  // namespace heed::inline HEED_ABI::detail
