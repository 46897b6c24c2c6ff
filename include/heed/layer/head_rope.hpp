/// \file
/// The rotation of a layer's heads.
#pragma once

#include <optional>
#include <utility>

#include <heed/layer/check.hpp>
#include <heed/rope/rope.hpp>

namespace heed::inline HEED_ABI::detail {

/// A rotation that a layer owns, one that it shares with other layers, or none. A Rope's tables take a megabyte, so a model
/// of many layers may make one for all.
class HeadRope {
 public:
  HeadRope() = default;

  /// A Rope of its own of `options`, or `shared`, which is not owned; of neither: none. invalid_argument if there are both,
  /// or if head_dim of the rotation is not `head_dim`; or the errors of Rope::create().
  [[nodiscard]] static Result<HeadRope> create(const std::optional<RopeOptions>& options, const Rope* shared,
                                               Index head_dim) {
    HeadRope made;
    if (options && shared != nullptr) {
      return fail(StatusCode::invalid_argument, "rope and shared_rope are both given, must be one of them");
    }
    if (options && options->head_dim != head_dim) {
      return fail(StatusCode::invalid_argument, "rope.head_dim is ", options->head_dim, ", must be head_dim ",
                  head_dim);
    }
    if (shared != nullptr && shared->options().head_dim != head_dim) {
      return fail(StatusCode::invalid_argument, "shared_rope->options().head_dim is ", shared->options().head_dim,
                  ", must be head_dim ", head_dim);
    }
    made.shared_ = shared;
    if (!options) return made;
    if (Status s = take(made.own_, Rope::create(*options)); !s.ok()) return s;
    return made;
  }

  /// Null without rotation. A Rope of its own moves with this object.
  [[nodiscard]] const Rope* get() const noexcept { return own_ ? &*own_ : shared_; }

 private:
  std::optional<Rope> own_;
  const Rope* shared_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
