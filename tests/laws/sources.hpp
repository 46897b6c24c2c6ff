/// \file
/// Sources that are not a KvCache: foreign memory of any layout, and a cache in pages.
#pragma once

#include <utility>

#include "guarded_bytes.hpp"
#include "laws/problem.hpp"

namespace heed_test {

/// The problem's rows in foreign memory: a random order of tokens and heads, random gaps, any alignment down to one
/// element, and a guard page right behind the last row.
class StridedRows {
 public:
  StridedRows(const Subject& subject, const Problem& p, oracle::Random& random)
      : keys_(lay_out(subject.storage.encode_keys(p.k), p.keys, p.shape.kv_heads, random)),
        values_(shares_rows(p.shape.mechanism) ? Stream{nullptr, keys_.stream}
                                               : lay_out(subject.storage.encode_values(p.v), p.keys, p.shape.kv_heads, random)),
        source_(subject.storage.strided(p.keys, keys_.stream, values_.stream, 0)) {}
  [[nodiscard]] const Source& keys() const { return *source_; }

 private:
  struct Stream {
    std::unique_ptr<GuardedBytes> bytes;
    heed::StridedStream stream;
  };
  // `numbers` is [tokens][heads] rows.
  static Stream lay_out(const std::vector<std::byte>& numbers, Index tokens, Index heads, oracle::Random& random) {
    if (tokens == 0) return {};
    const Index row = Index(numbers.size()) / (tokens * heads), gap = 2 * random.below(9);
    const bool by_token = random.below(2) == 0;
    const Index inner = row + gap, outer = inner * (by_token ? heads : tokens) + 2 * random.below(40);
    const Index size = (by_token ? tokens - 1 : heads - 1) * outer + (by_token ? heads - 1 : tokens - 1) * inner + row;
    Stream made{std::make_unique<GuardedBytes>(size),
                {.data = nullptr,
                 .token_stride_bytes = by_token ? outer : inner,
                 .head_stride_bytes = by_token ? inner : outer,
                 .row_bytes = row}};
    made.stream.data = made.bytes->data();
    std::memset(made.bytes->data(), 0xff, std::size_t(size));  // NaN in every format
    for (Index t = 0; t < tokens; ++t) {
      for (Index h = 0; h < heads; ++h) {
        std::memcpy(made.bytes->data() + t * made.stream.token_stride_bytes + h * made.stream.head_stride_bytes,
                    numbers.data() + (t * heads + h) * row, std::size_t(row));
      }
    }
    return made;
  }

  Stream keys_, values_;
  std::unique_ptr<Source> source_;
};

/// Some keys of another source, in pages where it has holes.
class Picked : public Source {
 public:
  Picked(const Source& source, std::vector<Index> keys) : source_(source), keys_(std::move(keys)) {}
  [[nodiscard]] Index size() const override { return Index(keys_.size()); }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index max) const override {
    return picked(keys_, stream, head, first, max);
  }
  [[nodiscard]] Index position(Index key) const override { return source_.position(keys_[std::size_t(key)]); }

 protected:
  [[nodiscard]] heed::RowRun picked(const std::vector<Index>& keys, int stream, Index head, Index first,
                                    Index max) const {
    const Index key = keys[std::size_t(first)];
    Index run = 1;
    while (run < max && first + run < Index(keys.size()) && keys[std::size_t(first + run)] == key + run) ++run;
    return source_.row_run(stream, head, key, run);
  }

 private:
  const Source& source_;
  std::vector<Index> keys_;
};

/// A staged source: every stage has a list of keys of another source, at positions of its own: those in the list.
class Staged final : public Picked {
 public:
  struct Stage {
    Interval queries;
    std::vector<Index> keys;
  };
  Staged(const Source& source, std::vector<Stage> stages) : Picked(source, {}), stages_(std::move(stages)) {}
  [[nodiscard]] Index stages() const override { return Index(stages_.size()); }
  [[nodiscard]] Interval stage_queries(Index stage) const override { return stages_[std::size_t(stage)].queries; }
  [[nodiscard]] Index stage_size(Index stage) const override { return Index(stages_[std::size_t(stage)].keys.size()); }
  [[nodiscard]] heed::RowRun stage_row_run(Index stage, int stream, Index head, Index first, Index max) const override {
    return picked(stages_[std::size_t(stage)].keys, stream, head, first, max);
  }
  [[nodiscard]] Index stage_position(Index, Index key) const override { return key; }

 private:
  std::vector<Stage> stages_;
};

/// Another source in pages of some rows, which may have its own positions.
class Paged final : public Source {
 public:
  Paged(const Source& source, Index page, std::vector<Index> positions = {})
      : source_(source), page_(page), positions_(std::move(positions)) {}
  [[nodiscard]] Index size() const override { return source_.size(); }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index max) const override {
    return source_.row_run(stream, head, first, std::min(max, page_ - first % page_));
  }
  [[nodiscard]] Index position(Index key) const override {
    return positions_.empty() ? source_.position(key) : positions_[std::size_t(key)];
  }

 private:
  const Source& source_;
  Index page_;
  std::vector<Index> positions_;
};

}  // namespace heed_test
