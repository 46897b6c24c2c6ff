/// \file
/// What heed does when the C++ heap, which containers of the standard library use, has no memory left.
#pragma once

#include <new>
#include <utility>

#include <heed/status.hpp>

namespace heed::inline HEED_ABI::detail {

/// Returns what body() returns, a Status or a Result. If the C++ heap has no memory for it, returns out_of_memory
/// naming `call`; body() must then have undone its changes. Without exceptions the standard library ends the program
/// instead.
template <class Body>
[[nodiscard]] auto with_heap(const char* call, const Body& body) -> decltype(body()) {
#if defined(__cpp_exceptions)
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(StatusCode::out_of_memory, call, ": the C++ heap has no memory");
  }
#else
  static_cast<void>(call);
  return body();
#endif
}

/// Undoes a change when it is destroyed, unless keep() was called before. So a change is undone if something later
/// fails.
template <class Change>
class Undo {
 public:
  explicit Undo(Change change) noexcept : change_(std::move(change)) {}
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    if (!kept_) change_();
  }
  void keep() noexcept { kept_ = true; }

 private:
  Change change_;
  bool kept_ = false;
};

}  // namespace heed::inline HEED_ABI::detail
