/// \file
/// How the loops call a hooks object.
#pragma once

#include <span>

#include <heed/hooks/check.hpp>
#include <heed/kernel/chunk_keys.hpp>
#include <heed/kernel/softmax_state.hpp>

namespace heed::inline HEED_ABI::detail {

/// true if hooks of this type see or change logits.
template <class H>
inline constexpr bool hooks_logits = LogitHook<H> || CappedLogitHook<H>;

/// What hooks are told of a row. `query` counts the queries of the job.
[[nodiscard]] inline HookRow hook_row(const Job& job, Index query, Index head, Index kv_head, Index worker) {
  return {.sequence = job.sequence,
          .query = job.first_query + query,
          .position = job.mask.text_position(job.query_position(query)),
          .head = head,
          .kv_head = kv_head,
          .worker = worker};
}

/// Calls a hooks object for the chunks of one worker's tasks.
template <class H>
class HookCalls {
 public:
  /// Begins with hooks, which must outlive the last call.
  void start(H& hooks, Index worker) noexcept {
    hooks_ = &hooks;
    worker_ = worker;
  }
  /// From here on the calls are about this chunk. `chunk` must not change before the next call of move_to().
  void move_to(ChunkKeys& chunk) {
    chunk.source_keys(keys_);
    positions_ = chunk.text_positions();
  }

  /// `scores` begin at slot 0.
  void logits(const HookRow& row, Interval slots, float* scores) {
    if (slots.size() > 0) hooks_->logits(chunk_of(row, slots, scores));
  }
  void capped_logits(const HookRow& row, Interval slots, float* scores) {
    if (slots.size() > 0) hooks_->capped_logits(chunk_of(row, slots, scores));
  }
  /// `weights` are those of softmax() of math `M`, 2^-8 exp(logit - max), and begin at slot 0.
  template <class M>
  void chunk(const HookRow& row, Interval slots, const typename M::Weight* weights, const SoftmaxState& state) {
    for (Index k = slots.begin; k < slots.end; ++k) {
      weights_[k] = float(weights[M::weight_place(k)]) * float(chunk_keys);
    }
    const auto size = std::size_t(slots.size());
    hooks_->chunk(ChunkProbabilities{.row = called(row),
                                     .keys = {keys_ + slots.begin, size},
                                     .positions = {positions_ + slots.begin, size},
                                     .weights = {weights_ + slots.begin, size},
                                     .max = state.max,
                                     .sum = state.sum});
  }

 private:
  [[nodiscard]] HookRow called(HookRow row) const noexcept {
    row.worker = worker_;
    return row;
  }
  [[nodiscard]] LogitChunk chunk_of(const HookRow& row, Interval slots, float* scores) const noexcept {
    const auto size = std::size_t(slots.size());
    return {.row = called(row),
            .keys = {keys_ + slots.begin, size},
            .positions = {positions_ + slots.begin, size},
            .logits = {scores + slots.begin, size}};
  }

  H* hooks_ = nullptr;
  Index worker_ = 0;
  const Index* positions_ = nullptr;
  Index keys_[chunk_keys];
  float weights_[chunk_keys];
};

/// Nothing is called.
template <>
class HookCalls<NoHooks> {};

}  // namespace heed::inline HEED_ABI::detail
