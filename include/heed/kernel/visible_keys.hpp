/// \file
/// Which rows of a task see which keys of a chunk, and which of them are computed together.
#pragma once

#include <algorithm>

#include <heed/floats.hpp>
#include <heed/kernel/task_rows.hpp>

namespace heed::inline HEED_ABI::detail {

/// The answers of a plan, or of the mask, for one chunk at a time. Keys are named by their slots.
class VisibleKeys {
 public:
  /// bits [rows of a task] is scratch.
  explicit VisibleKeys(KeyBits* bits) noexcept : bits_(bits) {}

  /// From here on the other functions speak of the chunk at which `chunk` stands. Returns false if no row sees a key.
  bool find(const TaskRows& rows, ChunkKeys& chunk) {
    if (!recall(rows, chunk) && !ask_visibility(rows.job(), rows.range(), chunk, bits_, &all_)) return false;
    if (all_.rows.size() <= 0) return false;
    if (all_.full) return true;
    if (all_.alike) {
      std::fill_n(bits_, rows.count(), KeyBits::of(all_.keys));
    } else {
      spread_to_rows(rows.range(), bits_);
    }
    return true;
  }

  /// What find() found, but for the rows' bits; and how to speak of that chunk again. `bits` are those of the chunk.
  /// \{
  [[nodiscard]] const Visibility& found() const noexcept { return all_; }
  void use(KeyBits* bits) noexcept { bits_ = bits; }
  void recall(const Visibility& found) noexcept { all_ = found; }
  /// \}

  /// true if every row sees every key of the chunk, from slot 0 on.
  [[nodiscard]] bool full() const noexcept { return all_.full; }
  /// From the first to the last row that sees a key.
  [[nodiscard]] Interval rows() const noexcept { return all_.rows; }
  /// Hull of the keys that some row sees.
  [[nodiscard]] Interval keys() const noexcept { return all_.keys; }
  /// The rows that see a key of a panel, and that panel's slots: 64, or fewer if the visible keys end earlier.
  /// \{
  [[nodiscard]] Interval panel_rows(Index panel) const noexcept { return all_.panel_rows[panel]; }
  [[nodiscard]] Interval panel_keys_of(Index panel) const noexcept {
    return {panel * panel_keys, std::min((panel + 1) * panel_keys, all_.keys.end)};
  }
  /// \}

  /// From the first key that a row sees to the last.
  [[nodiscard]] Interval keys_of(Index row) const noexcept { return all_.full ? all_.keys : bits_[row].hull(); }
  /// The same, begun at a multiple of 32: what softmax reads. The sum has 16 parts, and slot % 16 decides in which part
  /// a key is added, or slot % 32 / 2 in math::Bf16. Hidden slots weigh 0.
  [[nodiscard]] Interval softmax_keys_of(Index row) const noexcept {
    if (all_.full) return all_.keys;
    const Interval hull = bits_[row].hull();
    return {hull.begin / 32 * 32, hull.end};
  }

  /// Hides the keys of `slots` that a row does not see. logits [256] are the row's.
  void hide(Index row, Interval slots, float* logits) const noexcept {
    constexpr float lowest = -detail::infinity;
    if (all_.full) return;
    const KeyBits& bits = bits_[row];
    for (Index k = slots.begin; k < slots.end;) {
      const Index hidden = bits.find(k, slots.end, false);
      k = bits.find(hidden, slots.end, true);
      detail::fill(logits + hidden, logits + k, lowest);
    }
  }

  /// Calls body(rows, keys, phase) so that every row adds exactly the keys it sees, in order. A hidden key is never
  /// multiplied, not even by 0, because 0 * NaN is NaN. `tile` is the number of rows of a register tile. They are added
  /// together if they see the same keys.
  void each_run(FunctionRef<void(Interval, Interval, Accumulate)> body, Index tile) const {
    if (all_.full) {
      body(all_.rows, all_.keys, Accumulate{});
      return;
    }
    for (Interval rows = next_rows(all_.rows.begin, tile); rows.size() > 0; rows = next_rows(rows.end, tile)) {
      KeyBits all = bits_[rows.begin], some = all;
      for (Index r = rows.begin + 1; r < rows.end; ++r) {
        all = all & bits_[r];
        some = some | bits_[r];
      }
      const Interval hull = some.hull();
      if (all == some && all.find(hull.begin, hull.end, false) == hull.end) {
        body(rows, hull, Accumulate{});
        continue;
      }
      body(rows, Interval{hull.begin, hull.begin}, Accumulate{.resume = false, .finish = false});  // park zeros
      for (Index k = hull.begin; k < hull.end;) {
        if (all.test(k)) {
          const Index end = all.find(k, hull.end, false);
          body(rows, Interval{k, end}, Accumulate{.resume = true, .finish = false});
          k = end;
        } else {
          const Index end = all.find(k, hull.end, true);
          for (Index r = rows.begin; r < rows.end; ++r) {
            const KeyBits& bits = bits_[r];
            for (Index j = bits.find(k, end, true); j < end;) {
              const Index stop = bits.find(j, end, false);
              body(Interval{r, r + 1}, Interval{j, stop}, Accumulate{.resume = true, .finish = false});
              j = bits.find(stop, end, true);
            }
          }
          k = end;
        }
      }
      body(rows, Interval{hull.end, hull.end}, Accumulate{.resume = true, .finish = true});
    }
  }

 private:
  // What the plan answers. Returns false if it does not know. Without a row that sees a key all_.rows is empty.
  bool recall(const TaskRows& rows, const ChunkKeys& chunk) {
    using Kind = PlannedVisibility::Kind;
    const Job& job = rows.job();
    const Answers& answers = job.answers;
    if (answers.visibility == nullptr) return false;
    const PlannedVisibility& planned =
        answers.visibility[rows.task().row_block * job.num_chunks() + chunk.chunk().ordinal];
    if (planned.kind == Kind::unknown) return false;
    all_.rows = planned.rows.interval();
    all_.keys = planned.keys.interval();
    for (Index panel = 0; panel < chunk_panels; ++panel) {
      all_.panel_rows[panel] = planned.panel_rows[std::size_t(panel)].interval();
    }
    all_.full = planned.kind == Kind::full;
    all_.alike = planned.kind != Kind::bits;
    if (!all_.alike) std::copy_n(answers.bits + planned.bits, rows.range().queries(), bits_);
    return true;
  }

  // The next rows from `begin` on that are added together. If enough rows see the same keys: whole tiles of these.
  // Otherwise at most one tile of rows that each see some key.
  [[nodiscard]] Interval next_rows(Index begin, Index tile) const noexcept {
    const Index last = all_.rows.end;
    while (begin < last && !bits_[begin].any()) ++begin;
    Index end = begin;
    while (end < last && bits_[end] == bits_[begin]) ++end;
    if (end - begin >= tile) return {begin, end - (end - begin) % tile};
    while (end < std::min(begin + tile, last) && bits_[end].any()) ++end;
    return {begin, end};
  }

  KeyBits* bits_;  // of each row, unless all rows see all keys
  Visibility all_;
};

}  // namespace heed::inline HEED_ABI::detail
