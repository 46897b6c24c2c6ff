/// \file
/// The cache of a recurrent mechanism (MLGRU): a state of constant size instead of a row per token, behind the same
/// sequence interface as KvCache.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include <heed/cache/bytes.hpp>
#include <heed/cache/recurrent_ring.hpp>
#include <heed/cache/recurrent_step.hpp>

namespace heed::inline HEED_ABI {

/// The state of one sequence, all layers. A step has two phases, as in KvCache: begin(); then every layer reads its
/// state and writes the new states; then commit(), or abort(), which drops them. A call that fails changes nothing.
/// begin(), commit() and all between do not allocate.
///
/// A token cannot be taken out of a state. So truncate() can only go back to kept states: a ring keeps those of the
/// last undo_tokens tokens, and fork() or snapshot() keep any other. One thread at a time, except that layers of a step
/// may be written at once.
///
/// Movable, not copyable. The open step and its RecurrentLayers follow a state that moves. A state that was moved from
/// has no layers and no tokens, and its calls return wrong_state. Another state may be assigned to it.
class RecurrentState : private detail::StepOwner<RecurrentState> {
 public:
  using Step = RecurrentStep<RecurrentState>;  ///< what begin() opens

  /// An empty sequence: all states are zero. invalid_argument naming an option, or out_of_memory.
  [[nodiscard]] static Result<RecurrentState> create(const RecurrentOptions& options) {
    if (Status status = detail::validate_options(options); !status.ok()) return status;
    return make(detail::RecurrentRing::create(options));
  }

  /// The open step follows. `other` is left without layers and tokens.
  RecurrentState(RecurrentState&&) noexcept = default;
  RecurrentState& operator=(RecurrentState&&) noexcept = default;
  ~RecurrentState() { abort_step(); }

  /// Sizes of a state; 0 after a move.
  /// \{
  [[nodiscard]] Index layers() const noexcept { return ring_.layers(); }
  [[nodiscard]] Index width() const noexcept { return ring_.width(); }
  /// \}
  /// Committed tokens.
  [[nodiscard]] Index seen() const noexcept { return ring_.seen(); }
  /// The committed state of a layer, [width]. A layer outside 0 .. layers() - 1 has none: an empty span.
  [[nodiscard]] std::span<const float> state(Index layer) const noexcept {
    if (layer < 0 || layer >= layers()) return {};
    return {ring_.state(layer), std::size_t(width())};
  }

  /// Opens a step of the given number of tokens. invalid_argument for a negative number, out_of_range beyond
  /// max_tokens, wrong_state while another step is open.
  [[nodiscard]] Result<Step> begin(NumTokens tokens) {
    const Index count = tokens.count(), most = ring_.limit();
    if (Status status = no_step("begin()"); !status.ok()) return status;
    if (count < 0) return fail(StatusCode::invalid_argument, "begin(): count is ", count, ", must be at least 0");
    if (count > most - seen()) {
      return fail(StatusCode::out_of_range, "begin(): ", seen(), " tokens and ", count, " more exceed max_tokens ",
                  most);
    }
    return Step(*this, count);
  }
  /// The same with ids, of which only the number is used.
  [[nodiscard]] Result<Step> begin(std::span<const std::int32_t> tokens) { return begin(NumTokens(tokens.size())); }
  /// Deleted: a bare integer could be an id or a count. Write begin(std::span(&id, 1)) or begin(NumTokens(count)).
  template <class N>
    requires std::is_integral_v<N> Result<Step> begin(N)
  = delete;

  /// Back to the state after the first `tokens` tokens. out_of_range unless that is 0 or rollback_floor() .. seen(),
  /// wrong_state while a step is open.
  Status truncate(Index tokens) {
    if (Status status = no_step("truncate()"); !status.ok()) return status;
    if (tokens == 0) {
      ring_.clear();
      return {};
    }
    if (tokens < rollback_floor() || tokens > seen()) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", must be 0 or ", rollback_floor(),
                  " .. ", seen(), "; a recurrent state keeps those of undo_tokens ", ring_.options().undo_tokens,
                  ". fork() before");
    }
    ring_.truncate(tokens);
    return {};
  }
  /// The fewest tokens, besides 0, that truncate() can go back to.
  [[nodiscard]] Index rollback_floor() const noexcept { return ring_.floor(); }
  /// Drops all tokens. wrong_state while a step is open.
  Status clear() { return truncate(0); }

  /// An independent sequence with the same state. out_of_memory; wrong_state while a step is open.
  [[nodiscard]] Result<RecurrentState> fork() const {
    if (Status status = no_step("fork()"); !status.ok()) return status;
    return make(ring_.copy());
  }

  /// Memory held, measured. `live` is one state of all layers whatever was seen, so live bytes per token fall as 1 / seen.
  [[nodiscard]] CacheBytes bytes() const noexcept {
    CacheBytes made;
    made.allocated = made.peak = ring_.bytes() + written_.size();
    made.allocated_rows = ring_.bytes();
    made.live = state_bytes();
    made.layers = layers();
    made.kept = double(seen());
    made.seen = seen();
    return made;
  }
  /// By the formula: layers x width x 4, without padding.
  [[nodiscard]] Index state_bytes() const noexcept { return ring_.state_bytes(); }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  /// Bytes that snapshot() writes now.
  [[nodiscard]] std::size_t snapshot_bytes() const noexcept { return ring_.write(nullptr); }
  /// Writes the state, and the earlier ones that are kept. invalid_argument unless `to` has snapshot_bytes() bytes,
  /// wrong_state while a step is open.
  Status snapshot(std::span<std::byte> to) const {
    if (Status status = no_step("snapshot()"); !status.ok()) return status;
    if (to.size() != snapshot_bytes()) {
      return fail(StatusCode::invalid_argument, "snapshot(): to has ", to.size(), " bytes, must have ",
                  snapshot_bytes());
    }
    ring_.write(to.data());
    return {};
  }
  /// The state of a snapshot. `from` may hold any bytes. invalid_argument if they are damaged, or of another shape or
  /// model_id; out_of_range if it has seen more than max_tokens tokens. If undo_tokens is smaller than when the snapshot
  /// was made, the latest states are kept.
  [[nodiscard]] static Result<RecurrentState> restore(const RecurrentOptions& options,
                                                      std::span<const std::byte> from) {
    Result<RecurrentState> made = create(options);
    if (!made.ok()) return made;
    if (Status status = made->ring_.read(from); !status.ok()) return status;
    return made;
  }

 private:
  friend Step;
  friend class detail::StepGuard<RecurrentState>;
  friend class detail::StepOwner<RecurrentState>;
  static constexpr const char* kind = "state";

  RecurrentState() = default;
  [[nodiscard]] static Result<RecurrentState> make(Result<detail::RecurrentRing> ring) {
    if (!ring.ok()) return ring.status();
    Result<Buffer> written = Buffer::allocate(ring->options().memory, ring->layers(), "state");
    if (!written.ok()) return written.status();
    RecurrentState made;
    made.ring_ = *std::move(ring);
    made.written_ = *std::move(written);
    return made;
  }

  void drop_step() noexcept {}
  void step_closed() noexcept {}

  detail::RecurrentRing ring_;
  Buffer written_;  // a byte for each layer
};

}  // namespace heed::inline HEED_ABI
