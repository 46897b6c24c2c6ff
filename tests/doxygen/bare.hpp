/// \file
/// What doxygen must report, and what it must not.
#pragma once

namespace heed::inline HEED_ABI {

/// Described.
struct Toy {
  int described = 0;  ///< described
  int bare = 0;
  /// A group is described once.
  /// \{
  [[nodiscard]] int first() const { return described; }
  [[nodiscard]] int second() const { return bare; }
  /// \}
  friend bool operator==(const Toy&, const Toy&) = default;
};

namespace detail {
struct Inner {
  int hidden = 0;
};
}  // namespace detail

}  // namespace heed::inline HEED_ABI
