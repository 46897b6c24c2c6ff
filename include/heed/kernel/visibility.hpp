/// \file
/// Asks which rows of a block see which keys of a chunk.
#pragma once

#include <algorithm>

#include <heed/kernel/chunk_keys.hpp>

namespace heed::inline HEED_ABI::detail {

/// Rows of one KV head of a job: row r is query r / group.
struct RowRange {
  Interval rows;
  Index group = 1;  ///< query heads per KV head

  [[nodiscard]] Index first_query() const noexcept { return rows.begin / group; }
  [[nodiscard]] Index last_query() const noexcept { return (rows.end - 1) / group; }
  [[nodiscard]] Index queries() const noexcept { return last_query() + 1 - first_query(); }
  /// The rows of a query, counted from rows.begin on.
  [[nodiscard]] Interval rows_of(Index query) const noexcept {
    return {std::max<Index>(query * group - rows.begin, 0),
            std::min<Index>((query + 1) * group - rows.begin, rows.size())};
  }
};

/// Which keys of the chunk, at which `keys` stands, the rows see. Writes bits[i] of query first_query() + i if not all rows
/// see the same. Returns false if no row sees a key.
[[nodiscard]] inline bool ask_visibility(const Job& job, const RowRange& rows, ChunkKeys& keys, KeyBits* bits,
                                         Visibility* answer) {
  const Index first = rows.first_query(), last = rows.last_query();
  keys.ask();
  const Interval all_rows{0, rows.rows.size()};
  *answer = {.rows = all_rows, .panel_rows = {}, .keys = keys.slots()};
  Coverage all = Coverage::partial;
  if (job.query_positions.empty()) {  // positions are consecutive, so one question may answer for all rows
    all = keys.coverage({job.query_position(first), job.query_position(last) + 1});
  }
  if (all == Coverage::none) return false;
  if (all == Coverage::full) {
    answer->alike = true;
    answer->full = answer->keys.begin == 0;
    for (Index panel = 0; panel < chunk_panels; ++panel) {
      const bool any = panel * panel_keys < answer->keys.end && (panel + 1) * panel_keys > answer->keys.begin;
      answer->panel_rows[panel] = any ? all_rows : Interval{};
    }
    return true;
  }
  const Interval no_rows{all_rows.end, 0};
  KeyBits some;
  answer->rows = no_rows;
  std::fill_n(answer->panel_rows, chunk_panels, no_rows);
  const auto widen = [](Interval& to, Interval by) {
    to = {std::min(to.begin, by.begin), std::max(to.end, by.end)};
  };
  for (Index query = first; query <= last; ++query) {
    const KeyBits visible = keys.visible_to(job.query_position(query));
    bits[query - first] = visible;
    if (!visible.any()) continue;
    some = some | visible;
    const Interval by = rows.rows_of(query);
    widen(answer->rows, by);
    for (Index panel = 0; panel < chunk_panels; ++panel) {
      if (visible.word[std::size_t(panel)] != 0) widen(answer->panel_rows[panel], by);
    }
  }
  answer->keys = some.hull();
  return answer->rows.size() > 0;
}

/// From bits of queries to bits of rows, in place: visible[r] becomes what row r sees.
inline void spread_to_rows(const RowRange& rows, KeyBits* visible) {
  for (Index query = rows.last_query(); query >= rows.first_query(); --query) {  // a query's rows lie at its bits or behind
    const KeyBits bits = visible[query - rows.first_query()];
    const Interval of_query = rows.rows_of(query);
    std::fill(visible + of_query.begin, visible + of_query.end, bits);
  }
}

}  // namespace heed::inline HEED_ABI::detail
