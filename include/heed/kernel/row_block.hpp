/// \file
/// The kernel: one block of query rows of one KV head, over a range of 256-key chunks.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include <heed/kernel/plan.hpp>

namespace heed::inline HEED_ABI::detail {

/// Runs tasks with one worker's scratch. `K` and `V` are the codecs of the stored key and value rows.
template <class Backend, Codec K, Codec V>
class RowBlock {
 public:
  RowBlock(const AttentionLayout& layout, const PreparationRef& preparation, const AttendOptions& options,
           const Shape& shape, const Scratch& scratch) noexcept
      : layout_(layout), preparation_(preparation), options_(options), shape_(shape), scratch_(scratch) {}

  /// Leaves every row's state over the task's chunks pending in scratch; read it with row_state().
  void run(const Job& job, const Task& task) {
    job_ = &job;
    task_ = task;
    group_ = layout_.heads_per_group();
    num_rows_ = task.rows.size();
    gather_queries();
    for (Index r = 0; r < num_rows_; ++r) scratch_.stacks[r].reset();
    for (Index chunk = task.chunks.begin; chunk < task.chunks.end; ++chunk) run_chunk(chunk);
  }

  /// The state of row `r` of the task, and its normalised output (null if the row saw no key).
  SoftmaxState row_state(Index r, const float** out) noexcept {
    MergeStack& stack = scratch_.stacks[r];
    *out = nullptr;
    if (stack.empty()) return {};
    return stack.template fold<Backend>(row_slots(r), slot_stride(), shape_.state_width, out);
  }

 private:
  [[nodiscard]] Index query_of(Index row) const noexcept { return (task_.rows.begin + row) / group_; }
  [[nodiscard]] Index head_of(Index row) const noexcept {
    return task_.kv_head * group_ + (task_.rows.begin + row) % group_;
  }
  // Slot i of row r; the rows of one slot lie together, so a tile of rows writes one region.
  [[nodiscard]] float* row_slots(Index r) const noexcept { return scratch_.states + r * shape_.state_width; }
  [[nodiscard]] Index slot_stride() const noexcept { return shape_.max_rows * shape_.state_width; }

  void gather_queries() noexcept {
    const Index width = shape_.key_width;
    for (Index r = 0; r < num_rows_; ++r) {
      const float* from = job_->q + (query_of(r) * layout_.num_heads + head_of(r)) * width;
      std::copy(from, from + width, scratch_.q + r * width);
    }
  }

  void run_chunk(Index chunk) {
    first_key_ = chunk * chunk_keys;
    count_ = std::min(chunk_keys, job_->num_keys - first_key_);
    if (!find_visible()) return;
    locate_rows();
    compute_scores();
    modify_logits();
    softmax_and_place(chunk);
    accumulate();
  }

  // --- which rows see which keys -----------------------------------------------------------------------------------

  // Sets rows_ (first to last row that sees something), keys_ (hull of what they see) and full_. False if nothing is.
  bool find_visible() {
    const Interval keys{job_->source.position(first_key_), job_->source.position(first_key_ + count_ - 1) + 1};
    const Index first = query_of(0), last = query_of(num_rows_ - 1);
    const bool end_aligned = job_->query_positions.empty();
    have_positions_ = false;
    full_ = true;
    rows_ = {0, num_rows_};
    keys_ = {0, count_};
    if (end_aligned) {  // positions ascend, so one question may answer for all rows
      const Coverage all = job_->mask.coverage({job_->query_position(first), job_->query_position(last) + 1}, keys);
      if (all == Coverage::none) return false;
      if (all == Coverage::full) return true;
    }
    full_ = false;
    KeyBits seen;
    Index begin = num_rows_, end = 0;
    for (Index query = first; query <= last; ++query) {
      const KeyBits bits = visible_to(job_->query_position(query), keys);
      const Index r0 = std::max<Index>(query * group_ - task_.rows.begin, 0);
      const Index r1 = std::min<Index>((query + 1) * group_ - task_.rows.begin, num_rows_);
      std::fill(scratch_.visible + r0, scratch_.visible + r1, bits);
      if (!bits.any()) continue;
      seen = seen | bits;
      begin = std::min(begin, r0);
      end = std::max(end, r1);
    }
    if (begin >= end) return false;
    rows_ = {begin, end};
    keys_ = seen.hull();
    return true;
  }

  KeyBits visible_to(Index query_position, Interval keys) {
    KeyBits bits;
    switch (job_->mask.coverage({query_position, query_position + 1}, keys)) {
      case Coverage::none: break;
      case Coverage::full: bits = KeyBits::first(count_); break;
      case Coverage::partial: job_->mask.fill(query_position, positions(), count_, bits.word.data()); break;
    }
    return bits;
  }

  const Index* positions() {
    if (!have_positions_) {
      for (Index k = 0; k < count_; ++k) scratch_.positions[k] = job_->source.position(first_key_ + k);
      have_positions_ = true;
    }
    return scratch_.positions;
  }

  // --- where the rows lie ------------------------------------------------------------------------------------------

  // Fills row pointers; returns whether every row can be read `bytes` beyond the start of its view.
  bool point_at(const View& view, Index offset_bytes, Index bytes, Index first, Index count, const std::byte** row) {
    const StreamShape& stream = layout_.streams[std::size_t(view.stream)];
    const Index head = stream.num_heads == 1 ? 0 : task_.kv_head;
    bool readable = true;
    for (Index k = 0; k < count;) {
      const Tile tile = job_->source.tile(view.stream, head, first + k, count - k);
      const std::byte* at = tile.data + offset_bytes;
      for (Index i = 0; i < tile.rows; ++i) row[k + i] = at + i * tile.stride_bytes;
      readable &= tile.readable_bytes - offset_bytes >= bytes;
      k += tile.rows;
    }
    return readable;
  }

  void locate_rows() {
    const Index key_bytes = K::row_bytes(layout_.key.width), value_bytes = V::row_bytes(layout_.value.width);
    const std::byte** k = scratch_.pointers;
    const std::byte** v = k + count_;
    const bool prepares = preparation_.object != nullptr;
    bool whole = point_at(layout_.key, prepares ? 0 : K::offset_bytes(layout_.key.offset), round_up(key_bytes, 64),
                          first_key_, count_, k);
    whole &= point_at(layout_.value, V::offset_bytes(layout_.value.offset), round_up(value_bytes, 64), first_key_,
                      count_, v);
    in_place_ = whole && !prepares && rows_.size() <= Backend::few_rows;
    // The order of use is K of this chunk, V of this chunk, K of the next: what follows is prefetched while reading.
    const std::byte** next = v + count_;
    follow_ = first_key_ + count_ < task_.chunks.end * chunk_keys
                  ? std::min(chunk_keys, job_->num_keys - first_key_ - count_)
                  : 0;
    if (follow_ > 0) point_at(layout_.key, K::offset_bytes(layout_.key.offset), 0, first_key_ + count_, follow_, next);
    std::fill(next + follow_, next + chunk_keys + max_ahead, v[count_ - 1]);
    const Index distance = rows_.size() == 1 ? 8192 : 12288;  // bytes: measured best for one row and for four
    const auto ahead = [=](Index row_bytes) { return std::clamp<Index>(distance / row_bytes, 1, max_ahead); };
    key_rows_ = {k, k + ahead(key_bytes), count_};
    value_rows_ = {v, v + ahead(value_bytes), count_};
    key_lines_ = (key_bytes + 63) / 64;
    value_lines_ = (value_bytes + 63) / 64;
    if (preparation_.makes_values) prepare(0, count_);
  }

  // Stored rows as floats: where they lie, if they are floats and lie together (MFA-KR: 8 % of a step).
  const float* decoded_rows(Index first, Index count) {
    const Index width = layout_.streams[std::size_t(layout_.key.stream)].width;
    const std::byte* const* row = key_rows_.row + first;
    bool together = std::is_same_v<K, F32>;
    for (Index k = 1; k < count && together; ++k) together = row[k] - row[k - 1] == K::row_bytes(width);
    if (together) return reinterpret_cast<const float*>(row[0]);
    for (Index k = 0; k < count; ++k) K::decode(row[k], width, scratch_.decoded + k * width);
    return scratch_.decoded;
  }

  // Makes keys (and values) from stored rows, and points at those instead. A whole chunk at once if values are made, too;
  // else a panel, whose keys are packed while they are in L1.
  void prepare(Index first, Index count) {
    const float* const rows = decoded_rows(first, count);
    const auto point = [count](const std::byte** to, const float* made, Index width) {
      for (Index k = 0; k < count; ++k) to[k] = reinterpret_cast<const std::byte*>(made + k * width);
    };
    preparation_.keys(preparation_.object, task_.kv_head, count, rows, positions() + first, scratch_.prepared_keys);
    point(scratch_.pointers + first, scratch_.prepared_keys, shape_.key_width);
    if (!preparation_.makes_values) return;
    preparation_.values(preparation_.object, task_.kv_head, count, rows, positions() + first, scratch_.prepared_values);
    point(scratch_.pointers + count_ + first, scratch_.prepared_values, shape_.value_width);
  }

  // --- logits and probabilities ------------------------------------------------------------------------------------

  [[nodiscard]] float* scores(Index row) const noexcept { return scratch_.scores + row * chunk_keys; }

  void compute_scores() {
    const Index width = shape_.key_width;
    const float* q = scratch_.q + rows_.begin * width;
    const Index begin = keys_.begin / panel_keys * panel_keys;
    if (in_place_) {
      const KeyRows keys{key_rows_.row + begin, key_rows_.ahead + begin, keys_.end - begin};
      Backend::template score_rows<K>(q, width, rows_.size(), keys, width, layout_.scale, scores(rows_.begin) + begin);
      return;
    }
    for (Index first = begin; first < keys_.end; first += panel_keys) {
      const KeyRows keys{key_rows_.row + first, nullptr, std::min(panel_keys, keys_.end - first)};
      if (preparation_.object != nullptr && !preparation_.makes_values) prepare(first, keys.count);
      if (preparation_.object != nullptr) {
        Backend::template pack_keys<F32>(keys, width, scratch_.key_panel);
      } else {
        Backend::template pack_keys<K>(keys, width, scratch_.key_panel);
      }
      // The values of the same keys come next, unless they are the keys themselves.
      const bool apart = layout_.value.stream != layout_.key.stream;
      Backend::score_panel(q, width, rows_.size(), scratch_.key_panel, width, keys.count, layout_.scale,
                           scores(rows_.begin) + first,
                           Ahead{value_rows_.row + first, apart ? keys.count : 0, value_lines_});
    }
  }

  void modify_logits() {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    if (options_.soft_cap != 0) {
      for (Index r = rows_.begin; r < rows_.end; ++r) Backend::soft_cap(scores(r), keys_.end, options_.soft_cap);
    }
    if (!options_.alibi_slopes.empty()) {
      const Index origin = positions()[0];
      for (Index k = 0; k < count_; ++k) scratch_.distance[k] = float(scratch_.positions[k] - origin);
      for (Index r = rows_.begin; r < rows_.end; ++r) {
        Backend::add_bias(scores(r), keys_.end, options_.alibi_slopes[std::size_t(head_of(r))], scratch_.distance,
                          float(origin - job_->query_position(query_of(r))));
      }
    }
    if (full_) return;
    for (Index r = rows_.begin; r < rows_.end; ++r) {
      const KeyBits& bits = scratch_.visible[r];
      for (Index k = 0; k < keys_.end;) {
        const Index hidden = bits.find(k, keys_.end, false);
        k = bits.find(hidden, keys_.end, true);
        std::fill(scores(r) + hidden, scores(r) + k, lowest);
      }
    }
  }

  void softmax_and_place(Index chunk) {
    for (Index r = rows_.begin; r < rows_.end; ++r) {
      const ChunkSum chunk_sum = Backend::softmax(scores(r), keys_.end);
      RowTarget& target = scratch_.targets[r];
      if (chunk_sum.max == -std::numeric_limits<float>::infinity()) {  // this row sees nothing here: an identity
        target.out = nullptr;
        continue;
      }
      target.normalise = 1.0f / chunk_sum.sum;
      // 256 undoes the 2^-8 in the probabilities, exactly.
      scratch_.stacks[r].template push<Backend>(chunk, {chunk_sum.max, chunk_sum.sum * float(chunk_keys)}, row_slots(r),
                                                slot_stride(), shape_.state_width, target);
    }
    // Rows that see nothing still take part in their tile; what they compute goes to a slot nobody reads.
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
      each_run(
          [&](Interval rows, Interval keys, Accumulate phase) {
            Backend::template accumulate_rows<V>(scores(rows.begin), rows.size(), value_rows_, keys, 0, width,
                                                 scratch_.targets + rows.begin, phase);
          },
          Backend::few_rows);
    } else {
      for (Index dim = 0; dim < width; dim += panel_dims) {
        const Index dims = std::min(panel_dims, width - dim);
        const KeyRows rows{value_rows_.row, nullptr, keys_.end};
        if (preparation_.makes_values) {
          Backend::template pack_values<F32>(rows, dim, dims, scratch_.value_panel);
        } else {
          Backend::template pack_values<V>(rows, dim, dims, scratch_.value_panel);
        }
        each_run(
            [&](Interval block, Interval keys, Accumulate phase) {
              Backend::accumulate_panel(scores(block.begin), block.size(), scratch_.value_panel, keys, dim, dims,
                                        scratch_.targets + block.begin, phase, next_keys(dim, width));
            },
            tile_rows);
      }
    }
  }

  // The share of the next chunk's keys that the value dims from `dim` on should prefetch.
  [[nodiscard]] Ahead next_keys(Index dim, Index width) const noexcept {
    const Index begin = follow_ * dim / width, end = follow_ * std::min(dim + panel_dims, width) / width;
    return {value_rows_.row + count_ + begin, end - begin, key_lines_};
  }

  // Calls body(rows, keys, phase) so that every row adds exactly the keys it sees, in order: a hidden key is never
  // multiplied, not even by 0, because 0 * NaN is NaN. Rows go together where they see the same.
  template <class Body>
  void each_run(const Body& body, Index rows_together) {
    if (full_) {
      body(rows_, Interval{0, count_}, Accumulate{});
      return;
    }
    for (Index begin = rows_.begin; begin < rows_.end; begin += rows_together) {
      const Interval rows{begin, std::min(begin + rows_together, rows_.end)};
      KeyBits all = scratch_.visible[begin], some = all;
      for (Index r = begin + 1; r < rows.end; ++r) {
        all = all & scratch_.visible[r];
        some = some | scratch_.visible[r];
      }
      const Interval hull = some.hull();
      if (all == some && all.find(hull.begin, hull.end, false) == hull.end) {
        if (hull.size() > 0) body(rows, hull, Accumulate{});
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

  const AttentionLayout& layout_;
  const PreparationRef& preparation_;
  const AttendOptions& options_;
  const Shape& shape_;
  Scratch scratch_;

  const Job* job_ = nullptr;
  Task task_;
  Index group_ = 1;     // query heads per KV head
  Index num_rows_ = 0;  // of the task
  Index first_key_ = 0;
  Index count_ = 0;
  bool have_positions_ = false;
  bool full_ = false;      // every row sees every key of the chunk
  bool in_place_ = false;  // few rows: read keys and values where they are
  Interval rows_;
  Interval keys_;
  KeyRows key_rows_;
  KeyRows value_rows_;
  Index key_lines_ = 1;  // cache lines per row
  Index value_lines_ = 1;
  Index follow_ = 0;  // keys of the next chunk
};

}  // namespace heed::inline HEED_ABI::detail
