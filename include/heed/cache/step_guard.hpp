/// \file
/// What steps of all caches share: a step and its cache follow each other when one of them moves.
#pragma once

#include <utility>

#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

template <class Owner>
class StepOwner;

/// A number of new tokens between begin() and commit() or abort(). Movable: step and owner may both move while it is open.
/// The destructor aborts an open step.
///
/// The owner derives from StepOwner. Its `drop_step()` forgets the tokens, its `step_closed()` is called at the end of every
/// step. Neither can fail.
template <class Owner>
class StepGuard {
 public:
  /// The open step moves here; `other` is closed.
  StepGuard(StepGuard&& other) noexcept { take(other); }
  StepGuard& operator=(StepGuard&& other) noexcept {
    if (this != &other) {
      abort();
      take(other);
    }
    return *this;
  }
  ~StepGuard() { abort(); }

  /// false after commit() or abort(), if the step was moved from, or if its owner has ended.
  [[nodiscard]] bool open() const noexcept { return owner_ != nullptr; }
  /// Logical position of the first new token: the number of tokens before the step.
  [[nodiscard]] Index first_logical_position() const noexcept { return first_logical_position_; }
  /// Number of new tokens.
  [[nodiscard]] Index tokens() const noexcept { return tokens_; }
  /// Forgets the new tokens.
  void abort() noexcept {
    if (!open()) return;
    owner_->drop_step();
    close();
  }

 protected:
  /// The owner does not know the step yet. It learns its address when the step moves into the Result of begin().
  StepGuard(Owner& owner, Index tokens) noexcept
      : owner_(&owner), first_logical_position_(owner.seen()), tokens_(tokens) {}

  /// The owner; null if the step is closed.
  [[nodiscard]] Owner* owner() const noexcept { return owner_; }
  /// Ends the step. The owner's step_closed() is called.
  void close() noexcept {
    owner_->step_closed();
    base_of(*std::exchange(owner_, nullptr)).step_ = nullptr;
  }
  /// wrong_state naming `call`: what a call of a closed step returns.
  [[nodiscard]] static Status closed(const char* call) {
    return fail(StatusCode::wrong_state, call, ": the step is closed");
  }

 private:
  friend class StepOwner<Owner>;

  [[nodiscard]] static StepOwner<Owner>& base_of(Owner& owner) noexcept { return owner; }
  void take(StepGuard& other) noexcept {
    owner_ = std::exchange(other.owner_, nullptr);
    first_logical_position_ = other.first_logical_position_;
    tokens_ = other.tokens_;
    if (open()) base_of(*owner_).step_ = this;
  }

  Owner* owner_ = nullptr;
  Index first_logical_position_ = 0;
  Index tokens_ = 0;
};

/// What can have an open step. `Owner` derives from it, has `layers()` (0 once it was moved from) and `kind`, the noun of
/// messages, and aborts its step in its destructor, while its members still exist.
template <class Owner>
class StepOwner {
 protected:
  StepOwner() = default;
  /// The open step follows.
  StepOwner(StepOwner&& other) noexcept { take(other); }
  StepOwner& operator=(StepOwner&& other) noexcept {
    if (this != &other) {
      abort_step();
      take(other);
    }
    return *this;
  }
  ~StepOwner() = default;

  /// wrong_state naming `call` if a step is open, or if the owner was moved from.
  [[nodiscard]] Status no_step(const char* call) const {
    if (static_cast<const Owner*>(this)->layers() == 0) {
      return fail(StatusCode::wrong_state, call, ": the ", Owner::kind, " was moved from");
    }
    if (step_ == nullptr) return {};
    return fail(StatusCode::wrong_state, call, ": a step of ", step_->tokens(), " tokens is open; commit or abort it");
  }
  /// Aborts the open step, if there is one.
  void abort_step() noexcept {
    if (step_ != nullptr) step_->abort();
  }

 private:
  friend class StepGuard<Owner>;

  void take(StepOwner& other) noexcept {
    step_ = std::exchange(other.step_, nullptr);
    if (step_ != nullptr) step_->owner_ = static_cast<Owner*>(this);
  }

  StepGuard<Owner>* step_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
