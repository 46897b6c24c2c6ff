/// \file
/// The cache of a recurrent mechanism (MLGRU): a state of constant size instead of a row per token, behind the same
/// sequence interface as KvCache.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include <heed/cache/bytes.hpp>
#include <heed/cache/options.hpp>
#include <heed/cache/recurrent_layer.hpp>
#include <heed/cache/snapshot_io.hpp>
#include <heed/checked.hpp>
#include <heed/memory.hpp>

namespace heed::inline HEED_ABI {

/// Options of a RecurrentState. `layers` and `width` are at least 1, the others at least 0; create() says which number
/// is wrong.
struct RecurrentOptions {
  Index layers = 1;
  Index width = 0;             ///< numbers of a layer's state, kept in float32
  Index max_tokens = 0;        ///< most tokens of the sequence, those of a step included; 0: no limit
  Index undo_tokens = 0;       ///< number of earlier tokens whose states are kept, for truncate()
  std::uint64_t model_id = 0;  ///< the caller's hash of the weights; restore() refuses a snapshot with another one
  MemoryResource memory = default_memory();
};

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
class RecurrentState {
 public:
  class Step;

  /// An empty sequence: all states are zero. invalid_argument naming an option, or out_of_memory.
  [[nodiscard]] static Result<RecurrentState> create(const RecurrentOptions& options) {
    Status status = detail::check_range("layers", options.layers, 1, detail::most_layers);
    if (status.ok()) status = detail::check_range("width", options.width, 1, detail::most_width);
    if (status.ok()) status = detail::check_range("max_tokens", options.max_tokens, 0, detail::most_tokens);
    if (status.ok()) status = detail::check_range("undo_tokens", options.undo_tokens, 0, detail::most_undo);
    if (status.ok()) status = detail::check_memory(options.memory);
    if (!status.ok()) return status;
    RecurrentState made;
    made.options_ = options;
    if (status = made.allocate(); !status.ok()) return status;
    made.zero();
    return made;
  }

  RecurrentState(RecurrentState&& other) noexcept { take(other); }
  RecurrentState& operator=(RecurrentState&& other) noexcept {
    if (this != &other) {
      abort_step();
      take(other);
    }
    return *this;
  }
  ~RecurrentState() { abort_step(); }

  [[nodiscard]] Index layers() const noexcept { return options_.layers; }
  [[nodiscard]] Index width() const noexcept { return options_.width; }
  /// Committed tokens.
  [[nodiscard]] Index seen() const noexcept { return seen_; }
  /// The committed state of a layer, [width]. A layer outside 0 .. layers() - 1 has none: an empty span.
  [[nodiscard]] std::span<const float> state(Index layer) const noexcept {
    if (layer < 0 || layer >= layers()) return {};
    return {slot(head_) + layer * padded_width(), std::size_t(width())};
  }

  /// Opens a step of the given number of tokens. invalid_argument for a negative number, out_of_range beyond
  /// max_tokens, wrong_state while another step is open.
  [[nodiscard]] Result<Step> begin(NumTokens tokens);
  /// The same with ids, of which only the number is used.
  [[nodiscard]] Result<Step> begin(std::span<const std::int32_t> tokens);
  /// Deleted: a bare integer could be an id or a count. Write begin(std::span(&id, 1)) or begin(NumTokens(count)).
  template <class N>
    requires std::is_integral_v<N> Result<Step> begin(N)
  = delete;

  /// Back to the state after the first `tokens` tokens. out_of_range unless that is 0 or rollback_floor() .. seen(),
  /// wrong_state while a step is open.
  Status truncate(Index tokens) {
    if (Status status = no_step("truncate()"); !status.ok()) return status;
    if (tokens == 0) {
      zero();
      return {};
    }
    if (tokens < rollback_floor() || tokens > seen_) {
      return fail(StatusCode::out_of_range, "truncate(): tokens is ", tokens, ", must be 0 or ", rollback_floor(),
                  " .. ", seen_, "; a recurrent state keeps those of undo_tokens ", options_.undo_tokens,
                  ". fork() before");
    }
    head_ = (head_ - (seen_ - tokens) + slots()) % slots();
    depth_ -= seen_ - tokens;
    seen_ = tokens;
    return {};
  }
  /// The fewest tokens, besides 0, that truncate() can go back to.
  [[nodiscard]] Index rollback_floor() const noexcept { return seen_ - depth_; }
  /// Drops all tokens. wrong_state while a step is open.
  Status clear() { return truncate(0); }

  /// An independent sequence with the same state. out_of_memory; wrong_state while a step is open.
  [[nodiscard]] Result<RecurrentState> fork() const {
    if (Status status = no_step("fork()"); !status.ok()) return status;
    RecurrentState made;
    made.options_ = options_;
    if (Status status = made.allocate(); !status.ok()) return status;
    std::memcpy(made.states_.data(), states_.data(), std::size_t(states_.size()));
    made.head_ = head_;
    made.depth_ = depth_;
    made.seen_ = seen_;
    return made;
  }

  /// Memory held, measured. `live` is one state of all layers whatever was seen, so live bytes per token fall as 1 / seen.
  [[nodiscard]] CacheBytes bytes() const noexcept {
    CacheBytes made;
    made.allocated = made.peak = states_.size() + written_.size();
    made.allocated_rows = states_.size();
    made.live = state_bytes();
    made.layers = layers();
    made.kept = double(seen_);
    made.seen = seen_;
    return made;
  }
  /// By the formula: layers x width x 4, without padding.
  [[nodiscard]] Index state_bytes() const noexcept { return layers() * width() * Index(sizeof(float)); }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  /// Bytes that snapshot() writes now.
  [[nodiscard]] std::size_t snapshot_bytes() const noexcept { return write(nullptr); }
  /// Writes the state, and the earlier ones that are kept. invalid_argument unless `to` has snapshot_bytes() bytes,
  /// wrong_state while a step is open.
  Status snapshot(std::span<std::byte> to) const {
    if (Status status = no_step("snapshot()"); !status.ok()) return status;
    if (to.size() != snapshot_bytes()) {
      return fail(StatusCode::invalid_argument, "snapshot(): to has ", to.size(), " bytes, must have ",
                  snapshot_bytes());
    }
    write(to.data());
    return {};
  }
  /// The state of a snapshot. `from` may hold any bytes. invalid_argument if they are damaged, or of another shape or
  /// model_id; out_of_range if it has seen more than max_tokens tokens. If undo_tokens is smaller than when the snapshot
  /// was made, the latest states are kept.
  [[nodiscard]] static Result<RecurrentState> restore(const RecurrentOptions& options,
                                                      std::span<const std::byte> from) {
    Result<RecurrentState> made = create(options);
    if (!made.ok()) return made;
    if (Status status = made->read(from); !status.ok()) return status;
    return made;
  }

 private:
  static constexpr detail::SnapshotMagic magic{'h', 'e', 'e', 'd', '-', 'r', 's', 0};
  static constexpr std::uint32_t version = 1;

  RecurrentState() = default;

  // Kept states, and as many again for a step, which may yet be aborted.
  [[nodiscard]] Index slots() const noexcept { return 2 * (options_.undo_tokens + 1); }
  [[nodiscard]] Index padded_width() const noexcept {
    return round_up(width(), block_alignment / Index(sizeof(float)));
  }
  [[nodiscard]] Index slot_floats() const noexcept { return layers() * padded_width(); }
  [[nodiscard]] float* slot(Index s) const noexcept {
    return reinterpret_cast<float*>(const_cast<std::byte*>(states_.data())) + s * slot_floats();
  }
  // Kept states of a step of `count` tokens.
  [[nodiscard]] Index kept_of(Index count) const noexcept { return std::min(count, options_.undo_tokens + 1); }

  [[nodiscard]] Status allocate() {
    const Count bytes = Count(slots()) * slot_floats() * Index(sizeof(float));
    if (!bytes.fits()) {
      return fail(StatusCode::out_of_memory, "state: undo_tokens ", options_.undo_tokens, " need too many bytes");
    }
    Result<Buffer> states = Buffer::allocate(options_.memory, bytes.value(), "state");
    if (!states.ok()) return states.status();
    Result<Buffer> written = Buffer::allocate(options_.memory, layers(), "state");
    if (!written.ok()) return written.status();
    states_ = *std::move(states);
    written_ = *std::move(written);
    return {};
  }
  void zero() noexcept {
    head_ = depth_ = seen_ = 0;
    std::memset(states_.data(), 0, std::size_t(slot_floats()) * sizeof(float));
  }
  void take(RecurrentState& other) noexcept;
  void abort_step() noexcept;

  [[nodiscard]] Status no_step(const char* call) const;

  std::size_t write(std::byte* to) const noexcept {
    detail::SnapshotWriter writer(to);
    const std::size_t size_at = detail::begin_snapshot(writer, magic, version);
    for (const Index number : {layers(), width(), seen_, depth_}) writer.number(number);
    writer.number(options_.model_id);
    writer.part(Count(state_bytes()) * (depth_ + 1), [&] {
      for (Index back = depth_; back >= 0; --back) {
        for (Index layer = 0; layer < layers(); ++layer) {
          writer.bytes(slot((head_ - back + slots()) % slots()) + layer * padded_width(),
                       std::size_t(width()) * sizeof(float));
        }
      }
    });
    return detail::finish_snapshot(writer, size_at, to);
  }

  [[nodiscard]] Status read(std::span<const std::byte> from) {
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, "snapshot: ", parts...); };
    detail::SnapshotReader reader(from);
    if (Status status = detail::open_snapshot(reader, from, magic, version); !status.ok()) return status;
    const auto stored_layers = reader.number<Index>(), stored_width = reader.number<Index>();
    const auto seen = reader.number<Index>(), depth = reader.number<Index>();
    if (stored_layers != layers() || stored_width != width()) {
      return bad("it has ", stored_layers, " layers of ", stored_width, ", must have ", layers(), " of ", width());
    }
    if (reader.number<std::uint64_t>() != options_.model_id) return bad("it was made with another model_id");
    const Index most = detail::token_limit(options_.max_tokens);
    if (seen < 0 || seen > detail::most_tokens) {
      return bad("it has seen ", seen, " tokens, must be in 0 .. ", detail::most_tokens);
    }
    if (seen > most) {
      return fail(StatusCode::out_of_range, "snapshot: it has seen ", seen, " tokens, but max_tokens is ", most);
    }
    if (depth < 0 || depth > seen || depth > detail::most_undo) return bad("it keeps ", depth, " states of ", seen);
    const auto bytes = std::size_t(state_bytes());
    const Count wanted = Count(state_bytes()) * (depth + 1);
    if (!detail::has_size(reader.left(), wanted)) {
      return bad("it has ", reader.left(), " bytes of states, must have ", wanted);
    }
    const std::span<const std::byte> oldest =
        from.subspan(from.size() - sizeof(std::uint32_t) - std::size_t(wanted.value()), bytes);
    if (depth == seen && std::ranges::any_of(oldest, [](std::byte b) { return b != std::byte{0}; })) {
      return bad("the state before the first token is not zero");
    }
    depth_ = std::min(depth, options_.undo_tokens);
    for (Index skipped = depth_; skipped < depth; ++skipped) static_cast<void>(reader.bytes(bytes));
    for (Index s = 0; s <= depth_; ++s) {
      for (Index layer = 0; layer < layers(); ++layer) {
        const auto count = std::size_t(width()) * sizeof(float);
        std::memcpy(slot(s) + layer * padded_width(), reader.bytes(count), count);
      }
    }
    head_ = depth_;
    seen_ = seen;
    return {};
  }

  RecurrentOptions options_;
  Buffer states_;    // [slots][layers][padded width]
  Buffer written_;   // a byte for each layer
  Index head_ = 0;   // slot of the committed state
  Index depth_ = 0;  // states before it that are kept
  Index seen_ = 0;
  Step* step_ = nullptr;
};

/// The new tokens of a state between begin() and commit() or abort(). Movable. The destructor aborts an open step.
class RecurrentState::Step {
 public:
  Step(Step&& other) noexcept { take(other); }
  Step& operator=(Step&& other) noexcept {
    if (this != &other) {
      abort();
      take(other);
    }
    return *this;
  }
  ~Step() { abort(); }

  /// false after commit() or abort(), if the step was moved from, or if its state has ended.
  [[nodiscard]] bool open() const noexcept { return owner_ != nullptr; }
  [[nodiscard]] Index tokens() const noexcept { return tokens_; }
  /// Of the state; 0 when the step is closed.
  [[nodiscard]] Index layers() const noexcept { return open() ? owner_->layers() : 0; }
  [[nodiscard]] Index width() const noexcept { return open() ? owner_->width() : 0; }
  /// Index of the first new token.
  [[nodiscard]] Index first_logical_position() const noexcept { return first_logical_position_; }

  /// Where layer `layer` reads its state and writes the new states. The layer then counts as written. out_of_range for
  /// a layer that does not exist, wrong_state if the step is closed.
  [[nodiscard]] Result<RecurrentLayer> layer(Index layer) {
    if (!open()) return closed("layer()");
    if (layer < 0 || layer >= owner_->layers()) {
      return fail(StatusCode::out_of_range, "layer(): layer is ", layer, ", the state has ", owner_->layers());
    }
    RecurrentLayer made;
    made.data_ = owner_->slot(0) + layer * owner_->padded_width();
    made.width_ = owner_->width();
    made.stride_ = owner_->slot_floats();
    made.slots_ = owner_->slots();
    made.head_ = owner_->head_;
    made.first_ = tokens_ - owner_->kept_of(tokens_);
    made.tokens_ = tokens_;
    owner_->written_.data()[layer] = std::byte{1};
    return made;
  }

  /// Makes the state after the new tokens the committed one. wrong_state, and the step stays open, if a layer was not
  /// written.
  Status commit() { return commit(tokens_); }

  /// The same with the first `accepted` new tokens only. out_of_range, and the step stays open, unless their state was
  /// kept: accepted is 0, or at least tokens() - undo_tokens.
  Status commit(Index accepted) {
    if (!open()) return closed("commit()");
    const Index dropped = tokens_ - owner_->kept_of(tokens_);  // whose states were not kept
    if (accepted < 0 || accepted > tokens_ || (accepted > 0 && accepted <= dropped)) {
      return fail(StatusCode::out_of_range, "commit(): accepted is ", accepted, ", must be 0 or ",
                  std::min(dropped + 1, tokens_), " .. ", tokens_, " with undo_tokens ", owner_->options_.undo_tokens);
    }
    for (Index layer = 0; accepted > 0 && layer < owner_->layers(); ++layer) {
      if (owner_->written_.data()[layer] == std::byte{0}) {
        return fail(StatusCode::wrong_state, "commit(): layer ", layer, " was not written in this step");
      }
    }
    if (accepted > 0) {
      owner_->head_ = (owner_->head_ + accepted - dropped) % owner_->slots();
      owner_->depth_ =
          dropped > 0 ? accepted - dropped - 1 : std::min(owner_->depth_ + accepted, owner_->options_.undo_tokens);
      owner_->seen_ += accepted;
    }
    close();
    return {};
  }

  /// Drops the new tokens.
  void abort() noexcept {
    if (open()) close();
  }

 private:
  friend class RecurrentState;
  Step(RecurrentState& owner, Index tokens) noexcept
      : owner_(&owner), first_logical_position_(owner.seen_), tokens_(tokens) {
    std::memset(owner.written_.data(), 0, std::size_t(owner.written_.size()));
  }
  void take(Step& other) noexcept {
    owner_ = std::exchange(other.owner_, nullptr);
    first_logical_position_ = other.first_logical_position_;
    tokens_ = other.tokens_;
    if (open()) owner_->step_ = this;
  }
  void close() noexcept { std::exchange(owner_, nullptr)->step_ = nullptr; }
  [[nodiscard]] static Status closed(const char* call) {
    return fail(StatusCode::wrong_state, call, ": the step is closed");
  }

  RecurrentState* owner_ = nullptr;
  Index first_logical_position_ = 0;
  Index tokens_ = 0;
};

inline Result<RecurrentState::Step> RecurrentState::begin(NumTokens tokens) {
  const Index count = tokens.count();
  if (Status status = no_step("begin()"); !status.ok()) return status;
  if (count < 0) return fail(StatusCode::invalid_argument, "begin(): count is ", count, ", must be at least 0");
  const Index most = detail::token_limit(options_.max_tokens);
  if (count > most - seen_) {
    return fail(StatusCode::out_of_range, "begin(): ", seen_, " tokens and ", count, " more exceed max_tokens ", most);
  }
  return Step(*this, count);
}

inline Result<RecurrentState::Step> RecurrentState::begin(std::span<const std::int32_t> tokens) {
  return begin(NumTokens(tokens.size()));
}

inline Status RecurrentState::no_step(const char* call) const {
  if (layers() == 0) return fail(StatusCode::wrong_state, call, ": the state was moved from");
  if (step_ == nullptr) return {};
  return fail(StatusCode::wrong_state, call, ": a step of ", step_->tokens(), " tokens is open; commit or abort it");
}

inline void RecurrentState::abort_step() noexcept {
  if (step_ != nullptr) step_->abort();
}

inline void RecurrentState::take(RecurrentState& other) noexcept {
  options_ = other.options_;
  states_ = std::move(other.states_);
  written_ = std::move(other.written_);
  head_ = std::exchange(other.head_, 0);
  depth_ = std::exchange(other.depth_, 0);
  seen_ = std::exchange(other.seen_, 0);
  other.options_.layers = other.options_.width = 0;
  step_ = std::exchange(other.step_, nullptr);
  if (step_ != nullptr) step_->owner_ = this;
}

}  // namespace heed::inline HEED_ABI
