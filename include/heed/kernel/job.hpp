/// \file
/// What the kernel knows of one sequence of a call, or of one of its stages.
#pragma once

#include <algorithm>
#include <span>

#include <heed/checked.hpp>
#include <heed/kernel/answers.hpp>
#include <heed/kernel/chunk.hpp>
#include <heed/kernel/softmax_state.hpp>
#include <heed/kernel/source_ref.hpp>
#include <heed/retention/mask_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// n / by, of numbers that are not negative. Most calls are decode steps, in which n < by: they divide nothing.
[[nodiscard]] inline Index quotient(Index n, Index by) noexcept { return n < by ? 0 : n / by; }

/// One sequence of a batch, or one stage of a sequence. `q` is after the query map, `out` before the output map.
///
/// A plan has jobs of a step. A call copies them, and sets what its layer has of its own: source, mask, q, out and lse.
struct Job {
  SourceRef source;
  Index num_keys = 0;
  MaskRef mask;
  NearKeys near_keys = {};
  Index far_keys = 0;
  Index num_queries = 0;
  Index end = 0;                                          // position of the last key, plus 1
  const float* q = nullptr;                               // [num_queries][num_heads][key_width]
  float* out = nullptr;                                   // [num_queries][num_heads][value_width]
  float* lse = nullptr;                                   // [num_queries][num_heads], or null
  std::span<const Index> query_positions = {};            // [num_queries], or empty: end-aligned
  SoftmaxState* states = nullptr;                         // [num_queries][num_heads] if rows stay unfinished, else null
  Interval far_part = {0, count_limit};                   // numbers of far chunks that the job may read
  Interval near_part = {0, count_limit};                  // the same of near chunks
  Index first_far = 0;                                    // number of the chunk of far key 0
  Index sequence = 0;                                     // index in the batch
  Index stage = -1;                                       // number in the source; -1: the source has no stages
  Index first_query = 0;                                  // index of query 0 in the sequence: 0 but for later stages
  bool leads = true;                                      // maps queries and outputs: the sequence's first job only
  Answers answers = {};                                   // what a plan remembers
  Index first_block = 0, first_task = 0, first_part = 0;  // where this job's numbers begin; Tasks sets them
  Index parts = 1;                                        // chunk ranges that a row block is cut into; Tasks sets it

  [[nodiscard]] Index query_position(Index query) const {
    if (!query_positions.empty()) return query_positions[std::size_t(query)];
    return end - num_queries + query;
  }

  /// Numbers of the chunks of far keys that the job reads.
  [[nodiscard]] Interval far_chunks() const noexcept {
    return common({first_far, first_far + (far_keys + chunk_keys - 1) / chunk_keys}, far_part);
  }
  /// The same of near keys. They need not start at 0: the keys of earlier chunks may be evicted.
  [[nodiscard]] Interval near_chunks() const noexcept {
    const Index begin = near_keys.first_slot / chunk_keys, keys = num_keys - near_keys.first_key;
    return common({begin, keys == 0 ? begin : (near_keys.first_slot + keys + chunk_keys - 1) / chunk_keys}, near_part);
  }
  [[nodiscard]] Index num_chunks() const noexcept { return far_chunks().size() + near_chunks().size(); }
  [[nodiscard]] Chunk far_chunk(Index number) const noexcept {
    const Index first = (number - first_far) * chunk_keys;
    return {.is_far = true,
            .number = number,
            .ordinal = number - far_chunks().begin,
            .first = first,
            .slots = {0, std::min(chunk_keys, far_keys - first)}};
  }
  [[nodiscard]] Chunk near_chunk(Index number) const noexcept {
    const Index first = near_keys.first_key + number * chunk_keys - near_keys.first_slot;
    return {.is_far = false,
            .number = number,
            .ordinal = far_chunks().size() + number - near_chunks().begin,
            .first = first,
            .slots = {std::max<Index>(near_keys.first_key - first, 0), std::min(chunk_keys, num_keys - first)}};
  }

 private:
  [[nodiscard]] static Interval common(Interval all, Interval part) noexcept {
    const Index begin = std::max(all.begin, part.begin);
    return {begin, std::max(begin, std::min(all.end, part.end))};
  }
};

}  // namespace heed::inline HEED_ABI::detail
