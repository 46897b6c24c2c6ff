/// \file
/// The kernel: one block of query rows of one KV head, over a range of 256-key chunks.
#pragma once

#include <algorithm>
#include <type_traits>

#include <heed/attend_options.hpp>
#include <heed/factors.hpp>
#include <heed/floats.hpp>
#include <heed/kernel/hook_calls.hpp>
#include <heed/kernel/tasks.hpp>
#include <heed/kernel/visibility.hpp>
#include <heed/math/f32.hpp>

namespace heed::inline HEED_ABI::detail {

/// Runs tasks with one worker's scratch, which must outlive it. `K` and `V` are the codecs of the stored key and value
/// rows. `M` is the math: queries, keys, weights and values go to its loops only. `Hooks` is the type of a hooks object,
/// which set_hooks() gives, or NoHooks.
template <class Backend, Codec K, Codec V, class M = math::F32, class Hooks = NoHooks>
class RowBlock {
  using Loops = typename M::template On<Backend>;
  using Query = typename M::Query;
  using Panel = typename M::Panel;
  using Weight = typename M::Weight;

 public:
  RowBlock(const AttentionLayout& layout, const PreparationRef& preparation, const AttendOptions& options,
           const Shape& shape, const Scratch& scratch) noexcept
      : layout_(layout),
        preparation_(preparation),
        options_(options),
        shape_(shape),
        scratch_(scratch),
        chunk_(layout, scratch.positions, scratch.far_list) {}

  /// Gives the hooks, which must outlive the last run(). Called once, before it.
  void set_hooks(Hooks& hooks, Index worker) noexcept { hooks_.start(hooks, worker); }

  /// Leaves every row's state over the task's chunks pending in scratch; read it with row_state().
  void run(const Job& job, const Task& task) {
    job_ = &job;
    task_ = task;
    group_ = layout_.heads_per_group();
    num_rows_ = task.rows.size();
    first_query_ = task.rows.begin / group_;
    first_head_ = task.rows.begin - first_query_ * group_;
    gather_queries();
    for (Index r = 0; r < num_rows_; ++r) scratch_.stacks[r].reset();
    first_position_ = job.query_position(0);
    chunk_.start(job, task.kv_head);
    for (Index c = task.far_chunks.begin; c < task.far_chunks.end; ++c) run_chunk(job.far_chunk(c));
    for (Index c = task.near_chunks.begin; c < task.near_chunks.end; ++c) run_chunk(job.near_chunk(c));
  }

  /// The state of row `r` of the task, and its normalised output (null if the row saw no key).
  SoftmaxState row_state(Index r, const float** out) noexcept {
    MergeStack& stack = scratch_.stacks[r];
    *out = nullptr;
    if (stack.empty()) return {};
    return stack.template fold<Backend>(row_slots(r), slot_stride(), shape_.state_width, out);
  }

 private:
  // Rows of the first query, which are all rows of a decode step, need no division.
  [[nodiscard]] Index query_of(Index row) const noexcept {
    const Index at = first_head_ + row;
    return at < group_ ? first_query_ : first_query_ + at / group_;
  }
  [[nodiscard]] Index head_of(Index row) const noexcept {
    const Index at = first_head_ + row;
    return task_.kv_head * group_ + (at < group_ ? at : at % group_);
  }
  // Slot 0 of row r. The rows of one slot lie together, so a tile of rows writes one region.
  [[nodiscard]] float* row_slots(Index r) const noexcept { return scratch_.states + r * shape_.state_width; }
  [[nodiscard]] Index slot_stride() const noexcept { return shape_.max_rows * shape_.state_width; }

  // A row of queries in scratch, and how many Querys it has.
  [[nodiscard]] Index query_stride() const noexcept {
    return (shape_.key_width + M::query_numbers - 1) / M::query_numbers;
  }
  [[nodiscard]] Query* queries(Index row) const noexcept {
    return reinterpret_cast<Query*>(scratch_.q) + row * query_stride();
  }

  void gather_queries() noexcept {
    const Index width = shape_.key_width;
    for (Index r = 0; r < num_rows_; ++r) {
      const float* from = job_->q + (query_of(r) * layout_.num_heads + head_of(r)) * width;
      Loops::queries(from, 1, width, queries(r));
    }
  }

  void run_chunk(const Chunk& chunk) {
    chunk_.move_to(chunk);
    if (!find_visible()) return;
    locate_rows();
    compute_scores();
    if constexpr (AttendHooks<Hooks>) hooks_.move_to(chunk_);
    modify_logits();
    softmax_and_place();
    accumulate();
  }

  [[nodiscard]] Chunk first_chunk() const noexcept {
    return task_.far_chunks.size() > 0 ? job_->far_chunk(task_.far_chunks.begin)
                                       : job_->near_chunk(task_.near_chunks.begin);
  }
  // The chunk that is read after this one. It has no lanes if this is the last chunk.
  [[nodiscard]] Chunk following() const noexcept {
    const bool is_far = chunk_.chunk().is_far;
    const Index next = chunk_.chunk().number + 1;
    if (is_far && next < task_.far_chunks.end) return job_->far_chunk(next);
    if (!is_far && next < task_.near_chunks.end) return job_->near_chunk(next);
    return is_far && task_.near_chunks.size() > 0 ? job_->near_chunk(task_.near_chunks.begin) : Chunk{};
  }

  // --- which rows see which keys -----------------------------------------------------------------------------------

  // Sets rows_ (first to last row that sees a key), panel_rows_ (the same for each panel of 64 keys), keys_ (hull of
  // the visible lanes) and full_. Returns false if no row sees a key.
  bool find_visible() {
    const RowRange rows{task_.rows, group_};
    bool alike = false;
    if (!recall_visible(rows, &alike)) {
      Visibility seen;
      if (!ask_visibility(*job_, rows, chunk_, scratch_.visible, &seen)) return false;
      rows_ = seen.rows;
      std::copy_n(seen.panel_rows, panels, panel_rows_);
      keys_ = seen.keys;
      full_ = seen.full;
      alike = seen.alike;
    }
    if (rows_.size() <= 0) return false;
    if (full_) return true;
    if (alike) {
      std::fill_n(scratch_.visible, num_rows_, KeyBits::of(keys_));
    } else {
      spread_to_rows(rows, scratch_.visible);
    }
    return true;
  }

  // The same from the plan. Returns false if it does not know. Without a row that sees a key rows_ is empty.
  bool recall_visible(const RowRange& rows, bool* alike) {
    using Kind = PlannedVisibility::Kind;
    const Answers& answers = job_->answers;
    if (answers.seen == nullptr) return false;
    const PlannedVisibility& planned =
        answers.seen[task_.row_block * job_->num_chunks() + job_->ordinal(chunk_.chunk())];
    if (planned.kind == Kind::unknown) return false;
    rows_ = planned.rows.interval();
    keys_ = planned.keys.interval();
    for (Index panel = 0; panel < panels; ++panel) {
      panel_rows_[panel] = planned.panel_rows[std::size_t(panel)].interval();
    }
    full_ = planned.kind == Kind::full;
    *alike = planned.kind != Kind::bits;
    if (!*alike) std::copy_n(answers.bits + planned.bits, rows.queries(), scratch_.visible);
    return true;
  }

  [[nodiscard]] Index query_position(Index query) const {
    return job_->query_positions.empty() ? first_position_ + query : job_->query_positions[std::size_t(query)];
  }
  [[nodiscard]] Index text_position(Index query) const { return job_->mask.text_position(query_position(query)); }

  // --- where the rows lie ------------------------------------------------------------------------------------------

  void locate_rows() {
    const View& key = layout_.key;
    const View& value = layout_.value;
    const Index key_bytes = view_bytes<K>(key.offset, key.width);
    const Index value_bytes = view_bytes<V>(value.offset, value.width);
    const Index key_start = K::offset_bytes(key.offset), value_start = V::offset_bytes(value.offset);
    located_ = {keys_.begin / panel_keys * panel_keys, keys_.end};
    const Index count = located_.size();
    const std::byte** k = scratch_.pointers;
    const std::byte** v = k + count;
    const bool prepares = preparation_.object != nullptr;
    const Chunk& chunk = chunk_.chunk();
    // Null where a codec keeps no factors apart from its rows.
    const std::byte** const key_factors = has_plane<K>(key) ? scratch_.factor_pointers : nullptr;
    const std::byte** const value_factors = has_plane<V>(value) ? scratch_.factor_pointers + chunk_keys : nullptr;
    bool whole = chunk_.point_at(chunk, located_, key, key_start + round_up(key_bytes, 64), {k, key_factors});
    whole &= chunk_.point_at(chunk, located_, value, value_start + round_up(value_bytes, 64), {v, value_factors});
    in_place_ = whole && !preparation_.makes_values && rows_.size() <= Loops::few_rows;
    // Rows are used in this order: K of this chunk, V of this chunk, K of the next, which may be the next head's first.
    // Prefetches follow it.
    const Chunk next_chunk = following();
    const std::byte** next = v + count;
    follow_ = next_chunk.lanes.size();
    if (follow_ > 0) chunk_.point_at(next_chunk, next_chunk.lanes, key, 0, {.row = next});
    if (follow_ == 0 && task_.next_head) follow_ = chunk_.point_at_next_head(first_chunk(), next);
    const Index distance = rows_.size() == 1 ? 8192 : 12288;  // bytes: measured best for one row and for four
    const auto ahead = [=](Index row_bytes) { return std::clamp<Index>(distance / row_bytes, 1, max_ahead); };
    // Up to `ahead` rows behind the last key and the last value are looked up, and those of a whole group of keys.
    const Index used = std::max(ahead(key_bytes), ahead(value_bytes)) + most_key_group;
    std::fill(next + follow_, next + std::max(follow_, used), v[count - 1]);
    // Prepared keys and values have no view: they are made whole.
    key_rows_ = {k, k + ahead(key_bytes), count, prepares ? 0 : key.offset, key_factors};
    value_rows_ = {v, v + ahead(value_bytes), count, preparation_.makes_values ? 0 : value.offset, value_factors};
    key_lines_ = (key_bytes + 63) / 64;
    value_lines_ = (value_bytes + 63) / 64;
    if (in_place_ && chunk.is_far && chunk.number == task_.far_chunks.begin) {
      // No earlier chunk prefetched these rows, and hardware does not predict scattered rows. With fewer rows than the
      // prefetch distance, the first rows of the next chunk would also arrive late.
      for (Index row = 0; row < ahead(key_bytes); ++row) {
        for (Index byte = 0; byte < key_bytes; byte += 64) __builtin_prefetch(k[row] + key_start + byte);
      }
    }
    if (preparation_.makes_values) prepare(located_);
  }

  // The located rows of `lanes`.
  [[nodiscard]] KeyRows rows_of(const KeyRows& located, Interval lanes) const noexcept {
    const Index skip = lanes.begin - located_.begin;
    return {located.row + skip, located.ahead + skip, lanes.size(), located.offset,
            located.factors == nullptr ? nullptr : located.factors + skip};
  }
  template <class C>
  [[nodiscard]] bool has_plane(const View& view) const noexcept {
    return C::factor_bytes(layout_.streams[std::size_t(view.stream)].width) > 0;
  }

  // Stored rows as floats. Float rows that lie together are not copied (saves MFA-KR 8 % of a step).
  const float* decoded_rows(const KeyRows& rows) {
    const std::byte* const* const row = rows.row;
    const Index count = rows.count;
    const Index width = layout_.streams[std::size_t(layout_.key.stream)].width;
    bool together = std::is_same_v<K, F32>;
    for (Index k = 1; k < count && together; ++k) together = row[k] - row[k - 1] == K::row_bytes(width);
    if (together) return reinterpret_cast<const float*>(row[0]);
    Backend::template decode_rows<K>(rows, width, scratch_.decoded);
    return scratch_.decoded;
  }

  // Makes keys (and values, if the preparation makes them) from the stored rows of `lanes`, and points the row pointers
  // at them. If values are made, `lanes` is the whole chunk. Otherwise it is a panel: its keys are used while they are
  // in L1.
  void prepare(Interval lanes) {
    const Index live = std::max(lanes.begin, chunk_.lanes().begin), count = lanes.end - live;
    const std::byte** const keys = scratch_.pointers + (live - located_.begin);
    const float* const rows = decoded_rows(rows_of(key_rows_, {live, lanes.end}));
    const Index* const position = chunk_.text_positions() + live;
    const auto point = [&](const std::byte** to, const float* made, Index width) {
      for (Index k = 0; k < count; ++k) to[k] = reinterpret_cast<const std::byte*>(made + k * width);
      std::fill(to - (live - lanes.begin), to, to[0]);
    };
    preparation_.keys(preparation_.object, task_.kv_head, count, rows, position, scratch_.prepared_keys,
                      &Backend::linear);
    if (preparation_.makes_values) {
      preparation_.values(preparation_.object, task_.kv_head, count, rows, position, scratch_.prepared_values,
                          &Backend::linear);
      point(keys + located_.size(), scratch_.prepared_values, shape_.value_width);
    }
    point(keys, scratch_.prepared_keys, shape_.key_width);
  }

  // --- logits and probabilities ------------------------------------------------------------------------------------

  [[nodiscard]] float* scores(Index row) const noexcept { return scratch_.scores + row * chunk_keys; }
  [[nodiscard]] Weight* weights(Index row) const noexcept {
    if constexpr (weights_in_place<Weight>) {
      return scores(row);
    } else {
      return reinterpret_cast<Weight*>(scratch_.weights) + row * chunk_keys;
    }
  }

  // The lanes of a panel: 64, or fewer if the visible keys end earlier.
  [[nodiscard]] Interval panel_lanes(Index panel) const noexcept {
    return {panel * panel_keys, std::min((panel + 1) * panel_keys, keys_.end)};
  }

  void compute_scores() {
    if (in_place_ && preparation_.object != nullptr) {
      for (Index panel = 0; panel < panels; ++panel) {
        const Interval lanes = panel_lanes(panel);
        if (panel_rows_[panel].size() <= 0) continue;
        prepare(lanes);
        score_in_place<F32>(lanes);
      }
      return;
    }
    if (in_place_) {
      score_in_place<K>({keys_.begin / most_key_group * most_key_group, keys_.end});
      return;
    }
    for (Index panel = 0; panel < panels; ++panel) {
      const Interval rows = panel_rows_[panel], lanes = panel_lanes(panel);
      if (rows.size() <= 0) continue;
      if (preparation_.object != nullptr && !preparation_.makes_values) prepare(lanes);
      const KeyRows keys = rows_of(key_rows_, lanes);
      // The values of these keys are read next. They need a prefetch only if they lie in another stream.
      const bool apart = layout_.value.stream != layout_.key.stream;
      const Ahead next{rows_of(value_rows_, lanes).row, apart ? lanes.size() : 0, value_lines_,
                       V::offset_bytes(layout_.value.offset)};
      if (preparation_.object != nullptr) {
        score_packed<F32>(keys, rows, lanes, next);
      } else {
        score_packed<K>(keys, rows, lanes, next);
      }
    }
  }

  // Scores of all rows with keys that are read where they lie.
  template <class C>
  void score_in_place(Interval lanes) {
    const Index width = shape_.key_width;
    Loops::template score_rows<C>(queries(rows_.begin), query_stride(), rows_.size(), rows_of(key_rows_, lanes), width,
                                  layout_.scale, scores(rows_.begin) + lanes.begin);
  }
  // Scores of `rows` with the keys of a panel, which are packed first.
  template <class C>
  void score_packed(const KeyRows& keys, Interval rows, Interval lanes, const Ahead& next) {
    const Index width = shape_.key_width;
    Panel* const panel = reinterpret_cast<Panel*>(scratch_.key_panel);
    Loops::template pack_keys<C>(keys, width, panel);
    PanelFactors<C::factors> factors;
    if constexpr (C::factors != Factors::none) {
      read_factors<C>(keys, 0, width, panel_keys, panel_keys, scratch_.key_factors);
      factors.at = scratch_.key_factors;
    }
    Loops::score_panel(queries(rows.begin), query_stride(), rows.size(), panel, width, lanes.size(), layout_.scale,
                       scores(rows.begin) + lanes.begin, next, factors);
  }

  // The lanes of a row that softmax reads: the hull of the visible ones, begun at a multiple of 16. The sum has 16
  // parts, and lane % 16 decides in which part a key is added. Hidden lanes weigh 0.
  [[nodiscard]] Interval softmax_lanes(Index row) const noexcept {
    if (full_) return keys_;
    const Interval hull = scratch_.visible[row].hull();
    return {hull.begin / 16 * 16, hull.end};
  }

  void modify_logits() {
    if (!options_.alibi_slopes.empty()) {
      const Index* const position = chunk_.text_positions();
      for (Index k = 0; k < keys_.end; ++k) scratch_.distance[k] = float(position[k] - position[0]);
    }
    if (!hooks_logits<Hooks> && full_ && options_.soft_cap == 0 && options_.alibi_slopes.empty()) return;
    for (Index r = rows_.begin; r < rows_.end; ++r) modify_logits(r, softmax_lanes(r));
  }

  void modify_logits(Index r, Interval lanes) {
    float* const logits = scores(r) + lanes.begin;
    if constexpr (LogitHook<Hooks>) {
      hide(r, lanes);
      hooks_.logits(hook_row(r), seen_lanes(r), scores(r));
    }
    if (options_.soft_cap != 0) Backend::soft_cap(logits, lanes.size(), options_.soft_cap);
    if (!options_.alibi_slopes.empty()) {
      const Index origin = chunk_.text_positions()[0];
      Backend::add_bias(logits, lanes.size(), options_.alibi_slopes[std::size_t(head_of(r))],
                        scratch_.distance + lanes.begin, float(origin - text_position(query_of(r))));
    }
    if constexpr (CappedLogitHook<Hooks>) {
      hide(r, lanes);
      hooks_.capped_logits(hook_row(r), seen_lanes(r), scores(r));
    }
    hide(r, lanes);
  }

  // Hides the lanes that a row does not see.
  void hide(Index r, Interval lanes) noexcept {
    constexpr float lowest = -detail::infinity;
    if (full_) return;
    const KeyBits& bits = scratch_.visible[r];
    for (Index k = lanes.begin; k < lanes.end;) {
      const Index hidden = bits.find(k, lanes.end, false);
      k = bits.find(hidden, lanes.end, true);
      detail::fill(scores(r) + hidden, scores(r) + k, lowest);
    }
  }

  // What hooks are told of row `r`, and the lanes that they are given: from the first visible one to the last.
  [[nodiscard]] HookRow hook_row(Index r) const {
    return detail::hook_row(*job_, query_of(r), head_of(r), task_.kv_head, 0);
  }
  [[nodiscard]] Interval seen_lanes(Index r) const noexcept { return full_ ? keys_ : scratch_.visible[r].hull(); }

  void softmax_and_place() {
    for (Index r = rows_.begin; r < rows_.end; ++r) {
      const Interval lanes = softmax_lanes(r);
      RowTarget& target = scratch_.targets[r];
      target.out = nullptr;
      if (lanes.size() == 0) continue;
      const ChunkSum chunk_sum = Loops::softmax(scores(r) + lanes.begin, lanes.size(), weights(r) + lanes.begin);
      // The row sees no key here, or only logits of -inf: the chunk changes nothing.
      if (chunk_sum.max == -detail::infinity) continue;
      if constexpr (ChunkSink<Hooks>) {
        hooks_.chunk(hook_row(r), seen_lanes(r), weights(r), {chunk_sum.max, chunk_sum.sum * float(chunk_keys)});
      }
      target.normalise = 1.0f / chunk_sum.sum;
      // 256 undoes the 2^-8 in the probabilities, exactly.
      scratch_.stacks[r].template push<Backend>(chunk_.chunk().tree(),
                                                {chunk_sum.max, chunk_sum.sum * float(chunk_keys)}, row_slots(r),
                                                slot_stride(), shape_.state_width, target);
    }
    // Rows that see nothing are still computed with their tile. Their output goes to a slot that nobody reads.
    for (Index r = rows_.begin; r < rows_.end; ++r) {
      RowTarget& target = scratch_.targets[r];
      if (target.out != nullptr) continue;
      target.merges = 0;
      target.normalise = 0;
      target.out = row_slots(r) + scratch_.stacks[r].free_slot() * slot_stride();
    }
  }

  // --- outputs -----------------------------------------------------------------------------------------------------

  void accumulate() {
    const Index width = shape_.value_width;
    if (in_place_) {
      const Index first = located_.begin;
      each_run(
          [&](Interval rows, Interval keys, Accumulate phase) {
            Loops::template accumulate_rows<V>(weights(rows.begin) + first, rows.size(), value_rows_,
                                               {keys.begin - first, keys.end - first}, 0, width,
                                               scratch_.targets + rows.begin, phase);
          },
          Loops::few_rows);
      return;
    }
    for (Index dim = 0; dim < width; dim += panel_dims) {
      if (preparation_.makes_values) {
        accumulate_packed<F32>(dim, width);
      } else {
        accumulate_packed<V>(dim, width);
      }
    }
  }

  [[nodiscard]] Panel* value_panel() const noexcept { return reinterpret_cast<Panel*>(scratch_.value_panel); }

  // Adds up to 64 dims from `dim` on, with values packed first.
  template <class C>
  void accumulate_packed(Index dim, Index width) {
    const Index dims = std::min(panel_dims, width - dim);
    PanelFactors<C::factors> factors;
    if constexpr (C::factors != Factors::none) factors.at = scratch_.value_factors;
    for (Index panel = 0; panel < panels; ++panel) {
      if (panel_rows_[panel].size() <= 0) continue;
      const Interval lanes = panel_lanes(panel);
      const KeyRows rows = rows_of(value_rows_, lanes);
      Loops::template pack_values<C>(rows, dim, dims, value_panel() + lanes.begin / M::panel_numbers * panel_dims);
      if constexpr (C::factors != Factors::none) {
        read_factors<C>(rows, dim, dims, lanes.size(), chunk_keys, scratch_.value_factors + lanes.begin);
      }
    }
    accumulate_panels(dim, dims, next_keys(dim, width), factors);
  }
  template <Factors F>
  void accumulate_panels(Index dim, Index dims, const Ahead& next, const PanelFactors<F>& factors) {
    each_run(
        [&](Interval rows, Interval keys, Accumulate phase) {
          Loops::accumulate_panel(weights(rows.begin), rows.size(), value_panel(), keys, dim, dims,
                                  scratch_.targets + rows.begin, phase, next, factors);
        },
        tile_rows);
  }

  // The part of the next chunk's keys that is prefetched while the value dims from `dim` on are accumulated.
  [[nodiscard]] Ahead next_keys(Index dim, Index width) const noexcept {
    const Index begin = follow_ * dim / width, end = follow_ * std::min(dim + panel_dims, width) / width;
    return {value_rows_.row + located_.size() + begin, end - begin, key_lines_, K::offset_bytes(layout_.key.offset)};
  }

  // The next rows from `begin` on that are accumulated together: whole tiles of rows that see the same keys, if there
  // are enough of them; otherwise at most one tile of rows that each see some key.
  [[nodiscard]] Interval next_rows(Index begin, Index tile) const noexcept {
    const KeyBits* const visible = scratch_.visible;
    while (begin < rows_.end && !visible[begin].any()) ++begin;
    Index end = begin;
    while (end < rows_.end && visible[end] == visible[begin]) ++end;
    if (end - begin >= tile) return {begin, end - (end - begin) % tile};
    while (end < std::min(begin + tile, rows_.end) && visible[end].any()) ++end;
    return {begin, end};
  }

  // Calls body(rows, keys, phase) so that every row adds exactly the keys it sees, in order. A hidden key is never
  // multiplied, not even by 0, because 0 * NaN is NaN.
  template <class Body>
  void each_run(const Body& body, Index tile) {
    if (full_) {
      body(rows_, keys_, Accumulate{});
      return;
    }
    for (Interval rows = next_rows(rows_.begin, tile); rows.size() > 0; rows = next_rows(rows.end, tile)) {
      KeyBits all = scratch_.visible[rows.begin], some = all;
      for (Index r = rows.begin + 1; r < rows.end; ++r) {
        all = all & scratch_.visible[r];
        some = some | scratch_.visible[r];
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
            const KeyBits& bits = scratch_.visible[r];
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

  static constexpr Index tile_rows = 6;
  static constexpr Index panels = chunk_panels;

  const AttentionLayout& layout_;
  const PreparationRef& preparation_;
  const AttendOptions& options_;
  const Shape& shape_;
  const Scratch& scratch_;

  const Job* job_ = nullptr;
  Task task_;
  Index group_ = 1;           // query heads per KV head
  Index first_query_ = 0;     // of row 0
  Index first_head_ = 0;      // of row 0, in its KV head
  Index num_rows_ = 0;        // rows of the task
  Index first_position_ = 0;  // position of query 0 if there are no query_positions
  ChunkKeys chunk_;
  [[no_unique_address]] HookCalls<Hooks> hooks_;
  bool full_ = false;      // true if every row sees every key of the chunk, starting at lane 0
  bool in_place_ = false;  // few rows: keys and values are read without packing them into panels
  Interval rows_;
  Interval panel_rows_[panels];
  Interval keys_;     // hull of the lanes that some row sees
  Interval located_;  // lanes whose row pointers are filled: keys_, begun at a multiple of 64
  KeyRows key_rows_;
  KeyRows value_rows_;
  Index key_lines_ = 1;  // cache lines per row
  Index value_lines_ = 1;
  Index follow_ = 0;  // number of keys of the next chunk
};

}  // namespace heed::inline HEED_ABI::detail
