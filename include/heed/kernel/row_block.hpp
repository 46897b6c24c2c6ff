/// \file
/// The kernel: one block of query rows of one KV head, over a range of 256-key chunks.
#pragma once

#include <algorithm>

#include <heed/attend_options.hpp>
#include <heed/factors.hpp>
#include <heed/floats.hpp>
#include <heed/kernel/hook_calls.hpp>
#include <heed/kernel/pass_rows.hpp>
#include <heed/kernel/planned_call.hpp>
#include <heed/kernel/prepared_rows.hpp>
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
  /// `prepared` may be null if there is no preparation. Otherwise it points at prepared_steps of this class.
  RowBlock(const AttentionLayout& layout, const PreparationRef& preparation, const PreparedSteps* prepared,
           const AttendOptions& options, const TaskShape& shape, const Scratch& scratch) noexcept
      : layout_(layout),
        preparation_(preparation),
        prepared_(prepared),
        options_(options),
        prefetch_(options.prefetch != nullptr ? *options.prefetch : machine_prefetch()),
        few_rows_(std::min<Index>(Loops::few_rows, prefetch_.in_place_rows)),
        shape_(shape),
        scratch_(scratch),
        rows_(shape),
        chunk_(layout, scratch.positions, scratch.far_list),
        visible_(scratch.visible),
        pass_(layout, preparation, prefetch_, M::panel_numbers, scratch),
        scores_(scratch.scores) {}

  /// The steps of PreparedSteps. `block` is a RowBlock of this class.
  /// \{
  static void score_prepared(void* block) { static_cast<RowBlock*>(block)->compute_prepared_scores(); }
  static void accumulate_prepared(void* block, Index dim, Index width) {
    RowBlock& self = *static_cast<RowBlock*>(block);
    self.template accumulate_packed<F32>(dim, width);
  }
  /// \}

  /// Gives the hooks, which must outlive the last run(). Called once, before it.
  void set_hooks(Hooks& hooks, Index worker) noexcept { hooks_.start(hooks, worker); }

  /// Leaves every row's state over the task's chunks pending in scratch; read it with row_state().
  void run(const Job& job, const Task& task) {
    rows_.start(job, task);
    gather_queries();
    for (Index r = 0; r < rows_.count(); ++r) scratch_.stacks[r].reset();
    chunk_.start(job, task.kv_head);
    const Index all = rows_.num_chunks(), pass = chunks_of_pass();
    for (Index begin = 0; begin < all; begin += pass) run_pass({begin, std::min(begin + pass, all)});
  }

  /// The state of row `r` of the task, and its normalised output (null if the row saw no key).
  SoftmaxState row_state(Index r, const float** out) noexcept {
    return scratch_.stacks[r].template fold<Backend>(row_places(r), place_stride(), shape_.state_width, out);
  }

 private:
  // Place 0 of row r for pending states. Rows of one place lie together, so a tile of rows writes one region.
  [[nodiscard]] float* row_places(Index r) const noexcept { return scratch_.states + r * shape_.state_width; }
  [[nodiscard]] Index place_stride() const noexcept { return shape_.max_rows * shape_.state_width; }

  // A row of queries in scratch, and how many Querys it has.
  [[nodiscard]] Index query_stride() const noexcept {
    return (shape_.key_width + M::query_numbers - 1) / M::query_numbers;
  }
  [[nodiscard]] Query* queries(Index row) const noexcept {
    return reinterpret_cast<Query*>(scratch_.q) + row * query_stride();
  }

  void gather_queries() noexcept {
    const Index width = shape_.key_width;
    for (Index r = 0; r < rows_.count(); ++r) {
      const float* from = rows_.job().q + (rows_.query_of(r) * layout_.num_heads + rows_.head_of(r)) * width;
      Loops::queries(from, 1, width, queries(r));
    }
  }

  // Values that a preparation makes are used at once. Hooks are called for one chunk after the other.
  [[nodiscard]] Index chunks_of_pass() const noexcept {
    const bool shares_rows = layout_.key.stream == layout_.value.stream;  // its values are in the cache after its keys
    if (AttendHooks<Hooks> || preparation_.makes_values || shares_rows || rows_.count() > few_rows_) return 1;
    return std::clamp<Index>(prefetch_.chunks, 1, shape_.pass);
  }
  // The scores of all `chunks`, then their weights and values, one chunk after the other.
  void run_pass(Interval chunks) {
    pass_.start(rows_, chunk_, chunks);
    for (Index n = chunks.begin; n < chunks.end; ++n) {
      use(n);
      here_->chunk = rows_.chunk(n);
      chunk_.move_to(here_->chunk);
      here_->any = visible_.find(rows_, chunk_);
      if (!here_->any) continue;
      here_->visible = visible_.found();
      in_place_ = may_read_in_place(pass_.locate_keys(n));
      if (in_place_ && n == 0 && here_->chunk.is_far) pass_.prefetch_first_keys();
      if (preparation_.object != nullptr) {
        prepared_->score(this);
      } else {
        compute_scores();
      }
      if constexpr (AttendHooks<Hooks>) hooks_.move_to(chunk_);
      modify_logits();
    }
    for (Index n = chunks.begin; n < chunks.end; ++n) {
      use(n);
      if (!here_->any) continue;
      if (chunks.size() > 1) {
        chunk_.move_to(here_->chunk);
        visible_.recall(here_->visible);
        pass_.locate_values(n);
      }
      in_place_ = may_read_in_place(pass_.values_whole());
      softmax_and_place();
      accumulate();
    }
  }
  // true if rows that can be read in place are. Made values need a packed panel, and so do the keys of a call that has them.
  [[nodiscard]] bool may_read_in_place(bool whole) const noexcept {
    return whole && !preparation_.makes_values && visible_.rows().size() <= few_rows_;
  }
  // From here on chunk number `n` of the task is meant.
  void use(Index n) noexcept {
    const Index number = n - pass_.chunks().begin;
    scores_ = scratch_.scores + number * shape_.max_rows * chunk_keys;
    visible_.use(scratch_.visible + number * shape_.max_rows);
    here_ = &pass_.at(n);
  }
  void prepare(Interval slots) {
    PreparedRows<Backend, K> prepared(layout_, preparation_, shape_, scratch_);
    prepared.make(rows_, chunk_, pass_.keys(), pass_.values(), slots);
  }

  // --- logits and probabilities ------------------------------------------------------------------------------------

  [[nodiscard]] float* scores(Index row) const noexcept { return scores_ + row * chunk_keys; }
  [[nodiscard]] Weight* weights(Index row) const noexcept {
    if constexpr (weights_in_place<Weight>) {
      return scores(row);
    } else {
      return reinterpret_cast<Weight*>(scratch_.weights) + row * chunk_keys;
    }
  }

  void compute_scores() {
    if (in_place_) {
      score_in_place<K>({visible_.keys().begin / most_key_group * most_key_group, visible_.keys().end});
      return;
    }
    for (Index panel = 0; panel < chunk_panels; ++panel) {
      const Interval rows = visible_.panel_rows(panel), slots = visible_.panel_keys_of(panel);
      if (rows.size() > 0) score_packed<K>(rows, slots);
    }
  }
  // The same with keys that are made first. Made values need a packed panel.
  void compute_prepared_scores() {
    if (turns_in_place()) return;
    if (preparation_.makes_values) prepare(pass_.keys().slots());
    for (Index panel = 0; panel < chunk_panels; ++panel) {
      const Interval rows = visible_.panel_rows(panel), slots = visible_.panel_keys_of(panel);
      if (rows.size() <= 0) continue;
      if (!preparation_.makes_values) prepare(slots);
      if (in_place_) {
        score_in_place<F32>(slots);
      } else {
        score_packed<F32>(rows, slots);
      }
    }
  }

  // true if the loops can rotate keys of this codec while they score them, in this math.
  static constexpr bool loops_turn =
      std::is_same_v<M, math::F32> && K::factors == Factors::none && requires(const KeyTurns& turns) {
    Loops::template can_turn<K>(turns, Index{});
  };
  // Scores keys that a table rotates while they are read. Returns false if they must be made first.
  bool turns_in_place() {
    if constexpr (loops_turn) {
      const KeyTurns& turns = preparation_.turns;
      if (!in_place_ || visible_.rows().size() > Loops::most_turned_rows) return false;
      if (!Loops::template can_turn<K>(turns, shape_.key_width)) return false;
      const Interval slots{visible_.keys().begin / most_key_group * most_key_group, visible_.keys().end};
      const Index from = chunk_.consecutive_from();
      if (from < 0 || from % KeyTurns::group != 0 || from + slots.end > turns.positions) return false;
      const Interval rows = visible_.rows();
      KeyRows keys = pass_.keys().of(slots);
      keys.offset = layout_.key.offset;
      Loops::template score_turned_rows<K>(queries(rows.begin), query_stride(), rows.size(), keys, shape_.key_width,
                                           turns, from + slots.begin, layout_.scale, scores(rows.begin) + slots.begin);
      return true;
    }
    return false;
  }

  // Scores of all rows with keys that are read where they lie.
  template <class C>
  void score_in_place(Interval slots) {
    const Interval rows = visible_.rows();
    Loops::template score_rows<C>(queries(rows.begin), query_stride(), rows.size(), pass_.keys().of(slots),
                                  shape_.key_width, layout_.scale, scores(rows.begin) + slots.begin);
  }
  // Scores of `rows` with the keys of a panel, which are packed first.
  template <class C>
  void score_packed(Interval rows, Interval slots) {
    const Index width = shape_.key_width;
    const KeyRows keys = pass_.keys().of(slots);
    const Ahead next = pass_.during_keys(slots);
    Panel* const panel = reinterpret_cast<Panel*>(scratch_.key_panel);
    Loops::template pack_keys<C>(keys, width, panel);
    PanelFactors<C::factors> factors;
    if constexpr (C::factors != Factors::none) {
      read_factors<C>(keys, 0, width, panel_keys, panel_keys, scratch_.key_factors);
      factors.at = scratch_.key_factors;
    }
    Loops::score_panel(queries(rows.begin), query_stride(), rows.size(), panel, width, slots.size(), layout_.scale,
                       scores(rows.begin) + slots.begin, next, factors);
  }

  void modify_logits() {
    if (!options_.alibi_slopes.empty()) {
      const Index* const position = chunk_.text_positions();
      for (Index k = 0; k < visible_.keys().end; ++k) scratch_.distance[k] = float(position[k] - position[0]);
    }
    if (!hooks_logits<Hooks> && visible_.full() && options_.soft_cap == 0 && options_.alibi_slopes.empty()) return;
    for (Index r = visible_.rows().begin; r < visible_.rows().end; ++r) modify_logits(r, visible_.softmax_keys_of(r));
  }

  void modify_logits(Index r, Interval slots) {
    float* const logits = scores(r) + slots.begin;
    if constexpr (LogitHook<Hooks>) {
      visible_.hide(r, slots, scores(r));
      hooks_.logits(hook_row(r), visible_.keys_of(r), scores(r));
    }
    if (options_.soft_cap != 0) Backend::soft_cap(logits, slots.size(), options_.soft_cap);
    if (!options_.alibi_slopes.empty()) {
      const Index origin = chunk_.text_positions()[0];
      Backend::add_bias(logits, slots.size(), options_.alibi_slopes[std::size_t(rows_.head_of(r))],
                        scratch_.distance + slots.begin, float(origin - rows_.text_position(r)));
    }
    if constexpr (CappedLogitHook<Hooks>) {
      visible_.hide(r, slots, scores(r));
      hooks_.capped_logits(hook_row(r), visible_.keys_of(r), scores(r));
    }
    visible_.hide(r, slots, scores(r));
  }

  // What hooks are told of row `r`.
  [[nodiscard]] HookRow hook_row(Index r) const {
    return detail::hook_row(rows_.job(), rows_.query_of(r), rows_.head_of(r), rows_.task().kv_head, 0);
  }

  void softmax_and_place() {
    const Interval rows = visible_.rows();
    // Of all rows first: a row waits for its own maximum and sum, and rows next to each other wait together.
    for (Index r = rows.begin; r < rows.end; ++r) {
      const Interval slots = visible_.softmax_keys_of(r);
      scratch_.sums[r] = slots.size() == 0
                             ? ChunkSum{-detail::infinity, 0}
                             : Loops::softmax(scores(r) + slots.begin, slots.size(), weights(r) + slots.begin);
    }
    for (Index r = rows.begin; r < rows.end; ++r) {
      const ChunkSum& chunk_sum = scratch_.sums[r];
      RowTarget& target = scratch_.targets[r];
      // The row sees no key here, or only logits of -inf: the chunk changes nothing. The row is still computed with its
      // tile. Its output goes to a place that is never read.
      if (chunk_sum.max == -detail::infinity) {
        target.merges = 0;
        target.normalise = 0;
        target.out = row_places(r) + scratch_.stacks[r].free_place() * place_stride();
        continue;
      }
      // 256 undoes the 2^-8 in the probabilities, exactly.
      const SoftmaxState state{chunk_sum.max, chunk_sum.sum * float(chunk_keys)};
      if constexpr (ChunkSink<Hooks>) hooks_.template chunk<M>(hook_row(r), visible_.keys_of(r), weights(r), state);
      target.normalise = 1.0f / chunk_sum.sum;
      scratch_.stacks[r].template push<Backend>(chunk_.chunk().tree(), state, row_places(r), place_stride(),
                                                shape_.state_width, target);
    }
  }

  // --- outputs -----------------------------------------------------------------------------------------------------

  void accumulate() {
    const Index width = shape_.value_width;
    if (in_place_) {
      const Index first = pass_.values().slots().begin;
      visible_.each_run(
          [&](Interval rows, Interval keys, Accumulate phase) {
            Loops::template accumulate_rows<V>(weights(rows.begin) + first, rows.size(), pass_.values().all(),
                                               {keys.begin - first, keys.end - first}, 0, width,
                                               scratch_.targets + rows.begin, phase);
          },
          few_rows_);
      return;
    }
    for (Index dim = 0; dim < width; dim += panel_dims) {
      if (preparation_.makes_values) {
        prepared_->accumulate(this, dim, width);
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
    for (Index panel = 0; panel < chunk_panels; ++panel) {
      if (visible_.panel_rows(panel).size() <= 0) continue;
      const Interval slots = visible_.panel_keys_of(panel);
      const KeyRows rows = pass_.values().of(slots);
      Loops::template pack_values<C>(rows, dim, dims, value_panel() + slots.begin / M::panel_numbers * panel_dims);
      if constexpr (C::factors != Factors::none) {
        read_factors<C>(rows, dim, dims, slots.size(), chunk_keys, scratch_.value_factors + slots.begin);
      }
    }
    accumulate_panels(dim, dims, pass_.during_values(dim, width), factors);
  }
  template <Factors F>
  void accumulate_panels(Index dim, Index dims, const Ahead& next, const PanelFactors<F>& factors) {
    visible_.each_run(
        [&](Interval rows, Interval keys, Accumulate phase) {
          Loops::accumulate_panel(weights(rows.begin), rows.size(), value_panel(), keys, dim, dims,
                                  scratch_.targets + rows.begin, phase, next, factors);
        },
        tile_rows);
  }

  static constexpr Index tile_rows = 6;

  const AttentionLayout& layout_;
  const PreparationRef& preparation_;
  const PreparedSteps* prepared_;
  const AttendOptions& options_;
  const PrefetchTable& prefetch_;
  const Index few_rows_;  // most rows that read in place
  const TaskShape& shape_;
  const Scratch& scratch_;

  TaskRows rows_;
  ChunkKeys chunk_;
  VisibleKeys visible_;
  PassRows<K, V> pass_;
  float* scores_;              // of the chunk
  PassChunk* here_ = nullptr;  // the chunk
  bool in_place_ = false;      // its keys, or later its values, are read where they lie
  [[no_unique_address]] HookCalls<Hooks> hooks_;
};

/// The steps of a RowBlock for policies with a preparation. It does not refer to them itself, so they are compiled only
/// where a kernel points at this.
template <class Backend, Codec K, Codec V, class M = math::F32, class Hooks = NoHooks>
inline constexpr PreparedSteps prepared_steps{.score = &RowBlock<Backend, K, V, M, Hooks>::score_prepared,
                                              .accumulate = &RowBlock<Backend, K, V, M, Hooks>::accumulate_prepared};

}  // namespace heed::inline HEED_ABI::detail
