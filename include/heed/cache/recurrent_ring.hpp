/// \file
/// The states of a recurrent sequence in memory: a ring of the latest ones.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include <heed/cache/recurrent_layer.hpp>
#include <heed/cache/recurrent_options.hpp>
#include <heed/cache/snapshot_io.hpp>

namespace heed::inline HEED_ABI::detail {

/// A slot of the ring holds the state of all layers after one token. The ring keeps the committed state and those of the
/// undo_tokens tokens before it: undo_tokens + 1 slots. A step, which may be aborted, writes to as many other slots. The
/// ring does not know steps: its owner calls it in the right order. A ring that was moved from has no layers.
class RecurrentRing {
 public:
  RecurrentRing() = default;
  /// `other` is left without layers.
  RecurrentRing(RecurrentRing&& other) noexcept { take(other); }
  RecurrentRing& operator=(RecurrentRing&& other) noexcept {
    if (this != &other) take(other);
    return *this;
  }
  ~RecurrentRing() = default;

  /// All states zero, or out_of_memory. Options are valid.
  [[nodiscard]] static Result<RecurrentRing> create(const RecurrentOptions& options) {
    RecurrentRing made;
    made.options_ = options;
    if (Status status = made.allocate(); !status.ok()) return status;
    made.clear();
    return made;
  }
  /// The same states in memory of their own, or out_of_memory.
  [[nodiscard]] Result<RecurrentRing> copy() const {
    RecurrentRing made;
    made.options_ = options_;
    if (Status status = made.allocate(); !status.ok()) return status;
    std::memcpy(made.states_.data(), states_.data(), std::size_t(states_.size()));
    made.head_ = head_;
    made.depth_ = depth_;
    made.seen_ = seen_;
    return made;
  }

  /// As given to create(). After a move, `layers` and `width` are 0.
  [[nodiscard]] const RecurrentOptions& options() const noexcept { return options_; }
  /// Sizes of a state.
  /// \{
  [[nodiscard]] Index layers() const noexcept { return options_.layers; }
  [[nodiscard]] Index width() const noexcept { return options_.width; }
  /// \}
  /// Committed tokens.
  [[nodiscard]] Index seen() const noexcept { return seen_; }
  /// Most tokens of the sequence.
  [[nodiscard]] Index limit() const noexcept { return token_limit(options_.max_tokens); }
  /// The fewest tokens, besides 0, whose state is kept.
  [[nodiscard]] Index floor() const noexcept { return seen_ - depth_; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index bytes() const noexcept { return states_.size(); }
  /// layers x width x 4.
  [[nodiscard]] Index state_bytes() const noexcept { return layers() * width() * Index(sizeof(float)); }

  /// The committed state of a layer, [width].
  [[nodiscard]] const float* state(Index layer) const noexcept { return slot(head_) + layer * padded_width(); }
  /// Where a layer reads that state and writes those after each of `tokens` new tokens.
  [[nodiscard]] RecurrentLayer layer(Index layer, Index tokens) noexcept {
    RecurrentLayer made;
    made.data_ = slot(0) + layer * padded_width();
    made.width_ = width();
    made.stride_ = slot_floats();
    made.slots_ = slots();
    made.head_ = head_;
    made.first_ = dropped(tokens);
    made.tokens_ = tokens;
    return made;
  }
  /// How many of `tokens` new tokens, the first ones, leave no state.
  [[nodiscard]] Index dropped(Index tokens) const noexcept {
    return tokens - std::min(tokens, options_.undo_tokens + 1);
  }

  /// The state after the first `accepted` of `tokens` new tokens becomes the committed one. accepted > dropped(tokens).
  void commit(Index tokens, Index accepted) noexcept {
    const Index dropped = this->dropped(tokens);
    head_ = (head_ + accepted - dropped) % slots();
    depth_ = dropped > 0 ? accepted - dropped - 1 : std::min(depth_ + accepted, options_.undo_tokens);
    seen_ += accepted;
  }
  /// Back to the state after `tokens` tokens, which is kept.
  void truncate(Index tokens) noexcept {
    head_ = (head_ - (seen_ - tokens) + slots()) % slots();
    depth_ -= seen_ - tokens;
    seen_ = tokens;
  }
  /// No tokens; the committed state is zero.
  void clear() noexcept {
    head_ = depth_ = seen_ = 0;
    std::memset(states_.data(), 0, std::size_t(slot_floats()) * sizeof(float));
  }

  /// Writes a snapshot of all kept states and returns its bytes; only counts if `to` is null.
  std::size_t write(std::byte* to) const noexcept {
    SnapshotWriter writer(to);
    const std::size_t size_at = begin_snapshot(writer, magic, version);
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
    return finish_snapshot(writer, size_at, to);
  }

  /// Reads the states of a snapshot, the latest undo_tokens + 1 of them. invalid_argument if it is damaged or of another
  /// shape or model_id, out_of_range if it has seen more than max_tokens tokens; nothing changes then.
  [[nodiscard]] Status read(std::span<const std::byte> from) {
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, "snapshot: ", parts...); };
    SnapshotReader reader(from);
    if (Status status = open_snapshot(reader, from, magic, version); !status.ok()) return status;
    const auto stored_layers = reader.number<Index>(), stored_width = reader.number<Index>();
    const auto seen = reader.number<Index>(), depth = reader.number<Index>();
    if (stored_layers != layers() || stored_width != width()) {
      return bad("it has ", stored_layers, " layers of ", stored_width, ", must have ", layers(), " of ", width());
    }
    if (reader.number<std::uint64_t>() != options_.model_id) return bad("it was made with another model_id");
    if (seen < 0 || seen > most_tokens) {
      return bad("it has seen ", seen, " tokens, must be in 0 .. ", most_tokens);
    }
    if (seen > limit()) {
      return fail(StatusCode::out_of_range, "snapshot: it has seen ", seen, " tokens, but max_tokens is ", limit());
    }
    if (depth < 0 || depth > seen || depth > most_undo) return bad("it keeps ", depth, " states of ", seen);
    const auto bytes = std::size_t(state_bytes());
    const Count wanted = Count(state_bytes()) * (depth + 1);
    if (!has_size(reader.left(), wanted)) {
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

 private:
  static constexpr SnapshotMagic magic{'h', 'e', 'e', 'd', '-', 'r', 's', 0};
  static constexpr std::uint32_t version = 1;

  [[nodiscard]] Index slots() const noexcept { return 2 * (options_.undo_tokens + 1); }
  [[nodiscard]] Index padded_width() const noexcept {
    return round_up(width(), block_alignment / Index(sizeof(float)));
  }
  [[nodiscard]] Index slot_floats() const noexcept { return layers() * padded_width(); }
  [[nodiscard]] float* slot(Index s) const noexcept {
    return reinterpret_cast<float*>(const_cast<std::byte*>(states_.data())) + s * slot_floats();
  }

  [[nodiscard]] Status allocate() {
    const Count bytes = Count(slots()) * slot_floats() * Index(sizeof(float));
    if (!bytes.fits()) {
      return fail(StatusCode::out_of_memory, "state: undo_tokens ", options_.undo_tokens, " need too many bytes");
    }
    Result<Buffer> states = Buffer::allocate(options_.memory, bytes.value(), "state");
    if (!states.ok()) return states.status();
    states_ = *std::move(states);
    return {};
  }
  void take(RecurrentRing& other) noexcept {
    options_ = other.options_;
    states_ = std::move(other.states_);
    head_ = std::exchange(other.head_, 0);
    depth_ = std::exchange(other.depth_, 0);
    seen_ = std::exchange(other.seen_, 0);
    other.options_.layers = other.options_.width = 0;
  }

  RecurrentOptions options_;
  Buffer states_;    // [slots][layers][padded width]
  Index head_ = 0;   // slot of the committed state
  Index depth_ = 0;  // states before it that are kept
  Index seen_ = 0;
};

}  // namespace heed::inline HEED_ABI::detail
