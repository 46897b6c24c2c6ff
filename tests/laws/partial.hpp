/// \file
/// A call cut into parts: which chunks each part answers for, and what the parts merge to.
#pragma once

#include <algorithm>
#include <deque>
#include <utility>

#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test {

using heed::KeyRange;
using heed::PartialStates;
using heed::PartialView;

/// `chunks` cut at `cuts` random places, in order. The parts may be empty.
[[nodiscard]] inline std::vector<Interval> cut(Interval chunks, Index cuts, oracle::Random& random) {
  std::vector<Index> borders{chunks.begin, chunks.end};
  for (; cuts > 0; --cuts) borders.push_back(chunks.begin + random.below(chunks.size() + 1));
  std::sort(borders.begin(), borders.end());
  std::vector<Interval> parts;
  for (std::size_t i = 1; i < borders.size(); ++i) parts.push_back({borders[i - 1], borders[i]});
  return parts;
}

template <class T>
void shuffle(std::vector<T>& all, oracle::Random& random) {
  for (std::size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[std::size_t(random.below(Index(i)))]);
}

/// Ranges that together are all keys: any cut of the far and of the near chunks, dealt out and in any order.
[[nodiscard]] inline std::vector<KeyRange> random_ranges(KeyRange held, Index cuts, oracle::Random& random) {
  const auto ends = [&](Interval chunks) {  // the ends may lie where the keys end, or anywhere beyond
    if (random.below(2) == 0) chunks.begin = random.below(chunks.begin + 1);
    if (random.below(2) == 0) chunks.end = random.below(2) == 0 ? KeyRange::all : chunks.end + random.below(20);
    return chunks;
  };
  std::vector<Interval> far = cut(held.far_chunks, cuts, random), near_ones = cut(held.near_chunks, cuts, random);
  far.front().begin = ends({far.front().begin, 0}).begin;
  far.back().end = ends({0, far.back().end}).end;
  near_ones.front().begin = ends({near_ones.front().begin, 0}).begin;
  near_ones.back().end = ends({0, near_ones.back().end}).end;
  shuffle(far, random);
  shuffle(near_ones, random);
  std::vector<KeyRange> ranges;
  for (std::size_t i = 0; i < far.size(); ++i) ranges.push_back({far[i], near_ones[i]});
  return ranges;
}

/// One part of `p`; its states.
inline void attend_part(const Subject& subject, const Problem& p, const Source& keys, const KeyRange& range,
                        PartialStates& states, Index threads = 1) {
  heed::Workspace workspace;
  const PartialCall call{&keys, p.mask.ref(), p.q, range, &states, p.query_positions};
  const heed::Status status =
      subject.storage.attend_partial(subject.kernel, p.shape, {&call, 1}, workspace, workers(threads), p.options());
  EXPECT_TRUE(status.ok()) << status.message() << " " << p;
}

/// What parts merge to; NaN wherever nothing was written.
[[nodiscard]] inline Output finish(const Subject& subject, const Problem& p, std::span<const PartialView> parts,
                                   Index threads = 1) {
  Output result{std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
                std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)};
  heed::Workspace workspace;
  const heed::FinishSequence sequence{parts, result.out, result.lse};
  const heed::Status status =
      subject.storage.attend_finish(subject.kernel, p.shape, {&sequence, 1}, workspace, workers(threads), p.options());
  EXPECT_TRUE(status.ok()) << status.message() << " " << p;
  return result;
}

/// `p` in these parts, each with other threads.
[[nodiscard]] inline Output in_parts(const Subject& subject, const Problem& p, const Source& keys,
                                     const std::vector<KeyRange>& ranges, oracle::Random& random) {
  std::deque<PartialStates> states(ranges.size());
  std::vector<PartialView> parts;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    attend_part(subject, p, keys, ranges[i], states[i], 1 + random.below(3));
    parts.emplace_back(states[i]);
  }
  shuffle(parts, random);
  return finish(subject, p, parts, 1 + random.below(3));
}

}  // namespace heed_test
