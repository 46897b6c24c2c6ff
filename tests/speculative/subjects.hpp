/// \file
/// Policies, random rows of tokens for them, and steps of a cache: what a token brings is chosen by the test, so that the
/// same token can come alone, among others, or on a path of a tree.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/layer/mla.hpp>
#include <heed/policy/mfa.hpp>

#include "lists/policies.hpp"
#include "oracle/random.hpp"
#include "policy/backend.hpp"

namespace heed_test {

inline constexpr float nan = std::numeric_limits<float>::quiet_NaN();

template <class P>
struct Subject {
  P policy;
  Index q_width = 0, out_width = 0;  ///< per token
};

[[nodiscard]] inline const heed::Rope& rope_of(Index dim) {
  static const heed::Rope rope8 =
      heed::value_or_throw(heed::Rope::create({.head_dim = 8, .layout = heed::RopeLayout::interleaved, .theta = 1e4}));
  static const heed::Rope rope24 =
      heed::value_or_throw(heed::Rope::create({.head_dim = 24, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  return dim == 8 ? rope8 : rope24;
}
[[nodiscard]] inline Subject<heed::Gqa> gqa() {
  return {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 24, .v_head_dim = 40, .scale = 0.2f}, 4 * 24, 4 * 40};
}
[[nodiscard]] inline Subject<heed::Mha> mha() {
  return {{.num_heads = 3, .head_dim = 24, .v_head_dim = 16, .scale = 0.2f}, 3 * 24, 3 * 16};
}
[[nodiscard]] inline Subject<heed::Mqa> mqa() {
  return {{.num_heads = 5, .head_dim = 16, .v_head_dim = 24, .scale = 0.2f}, 5 * 16, 5 * 24};
}
[[nodiscard]] inline Subject<heed::Mfa> mfa() {
  return {{.num_heads = 5, .head_dim = 24, .scale = 0.2f}, 5 * 24, 5 * 24};
}
[[nodiscard]] inline Subject<heed::MfaKr> mfa_kr() {
  return {{.num_heads = 5, .head_dim = 24, .scale = 0.2f, .rope = &rope_of(24)}, 5 * 24, 5 * 24};
}
[[nodiscard]] inline Subject<heed::RotatedKeys<heed::Gqa>> rotated_gqa() {
  return {{.policy = gqa().policy, .rope = &rope_of(24)}, 4 * 24, 4 * 40};
}
/// Absorbed, with weights; `rotates`: rope keys are turned when they are read.
[[nodiscard]] inline Subject<heed::Mla> mla(bool rotates = false) {
  static const heed::Mla shape{.num_heads = 3,
                               .kv_lora_rank = 20,
                               .qk_rope_head_dim = 8,
                               .qk_nope_head_dim = 16,
                               .v_head_dim = 12,
                               .scale = 0.2f};
  static const heed::PackedMlaWeights packed = [] {
    oracle::Random random(4);
    const std::vector<float> kv_b = random.gaussians(3 * (16 + 12) * 20, 0.2);
    return heed::value_or_throw(heed::PackedMlaWeights::create(shape, {kv_b, 3 * 28, 20}));
  }();
  heed::Mla made = shape;
  made.weights = packed.weights();
  if (rotates) made.rope = &rope_of(8);
  return {made, 3 * 24, 3 * 12};
}

/// Calls f with a Subject of every policy that a cache can be made of, also of those whose keys turn when they are read.
template <class F>
void for_each_subject(const F& f) {
  const PolicySizes sizes{.heads = 4, .kv_heads = 2, .width = 24, .v_width = 40};
  const auto of = [&]<class P, class Cached>(const PolicyCase<P, Cached>& one) {
    if constexpr (std::is_same_v<P, Cached>) {
      const Index heads = one.policy.layout().num_heads;
      f(Subject<P>{one.policy, heads * one.q_width, heads * one.out_width});
    }
  };
  for_each_policy(sizes, of);
  for_each_turning_policy(sizes, of);
}

/// What tokens bring: a query and a row for each stream.
struct Rows {
  std::vector<std::int32_t> ids = {};
  std::vector<float> q = {};
  std::vector<std::vector<float>> streams = {};

  [[nodiscard]] Index size() const { return Index(ids.size()); }
  /// Some of the tokens, in this order.
  [[nodiscard]] Rows picked(std::span<const Index> tokens) const {
    Rows some;
    some.streams.resize(streams.size());
    const auto copy = [&](const auto& from, Index token, auto& to) {
      const auto width = Index(from.size()) / size();
      to.insert(to.end(), from.begin() + token * width, from.begin() + (token + 1) * width);
    };
    for (const Index token : tokens) {
      copy(ids, token, some.ids);
      copy(q, token, some.q);
      for (std::size_t s = 0; s < streams.size(); ++s) copy(streams[s], token, some.streams[s]);
    }
    return some;
  }
  [[nodiscard]] Rows part(Index first, Index count) const {
    std::vector<Index> tokens(static_cast<std::size_t>(count));
    std::iota(tokens.begin(), tokens.end(), first);
    return picked(tokens);
  }
  void append(const Rows& more) {
    if (streams.empty()) streams.resize(more.streams.size());
    ids.insert(ids.end(), more.ids.begin(), more.ids.end());
    q.insert(q.end(), more.q.begin(), more.q.end());
    for (std::size_t s = 0; s < more.streams.size(); ++s) {
      streams[s].insert(streams[s].end(), more.streams[s].begin(), more.streams[s].end());
    }
  }
  /// A token whose row nobody may read.
  void poison(Index token) {
    for (std::vector<float>& stream : streams) {
      const auto width = Index(stream.size()) / size();
      std::fill_n(stream.begin() + token * width, width, nan);
    }
  }
};

template <class P>
[[nodiscard]] Rows random_rows(const Subject<P>& subject, Index tokens, oracle::Random& random) {
  Rows rows;
  for (Index t = 0; t < tokens; ++t) rows.ids.push_back(std::int32_t(random.below(8)));
  rows.q = random.gaussians(tokens * subject.q_width);
  const heed::AttentionLayout layout = subject.policy.layout();
  for (int s = 0; s < layout.num_streams; ++s) {
    const heed::StreamShape shape = layout.streams[std::size_t(s)];
    rows.streams.push_back(random.gaussians(tokens * shape.num_heads * shape.width));
  }
  return rows;
}

/// Of queries, a row each.
struct Output {
  std::vector<float> out, lse;

  /// The same bits.
  friend bool operator==(const Output& a, const Output& b) { return same(a.out, b.out) && same(a.lse, b.lse); }
  [[nodiscard]] Output row(Index query, Index queries) const { return rows(query, 1, queries); }
  /// `count` rows of `queries`, from `first` on.
  [[nodiscard]] Output rows(Index first, Index count, Index queries) const {
    const auto part = [&](const std::vector<float>& all) {
      const auto width = queries == 0 ? 0 : Index(all.size()) / queries;
      return std::vector<float>(all.begin() + first * width, all.begin() + (first + count) * width);
    };
    return {part(out), part(lse)};
  }

 private:
  static bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
  }
};

template <class P>
[[nodiscard]] Output empty_output(const Subject<P>& subject, Index queries) {
  return {std::vector<float>(std::size_t(queries * subject.out_width), nan),
          std::vector<float>(std::size_t(queries * subject.policy.layout().num_heads), nan)};
}

/// Without a mask: what the keys say.
template <class P, class Keys>
[[nodiscard]] Output attend(const Subject<P>& subject, const Rows& rows, const Keys& keys, heed::MaskRef mask = {}) {
  Output made = empty_output(subject, rows.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::Status status =
      heed::attend<Backend>(subject.policy, rows.q, keys, mask, made.out, workspace, executor, {}, made.lse);
  EXPECT_TRUE(status.ok()) << status.message();
  return made;
}

/// Opens a step with the rows in all layers.
template <class Cache>
[[nodiscard]] typename Cache::Step begin(Cache& cache, const Rows& rows) {
  auto opened = cache.begin(rows.ids);
  heed::check(opened.status());
  auto& step = *opened;
  for (Index layer = 0; layer < cache.layers(); ++layer) {
    for (std::size_t s = 0; s < rows.streams.size(); ++s) heed::check(step.write(layer, int(s), rows.streams[s]));
  }
  return std::move(step);
}

/// A step of all rows, committed.
template <class P, class Cache>
Output decode(const Subject<P>& subject, Cache& cache, const Rows& rows) {
  auto step = begin(cache, rows);
  const Output made = attend(subject, rows, step.keys(cache.layers() - 1));
  heed::check(step.commit());
  return made;
}
/// The same, token by token.
template <class P, class Cache>
Output decode_one_by_one(const Subject<P>& subject, Cache& cache, const Rows& rows) {
  Output all;
  for (Index t = 0; t < rows.size(); ++t) {
    const Output one = decode(subject, cache, rows.part(t, 1));
    all.out.insert(all.out.end(), one.out.begin(), one.out.end());
    all.lse.insert(all.lse.end(), one.lse.begin(), one.lse.end());
  }
  return all;
}

template <class Codec, class P>
[[nodiscard]] heed::KvCache<P, Codec> make_cache(const Subject<P>& subject, const heed::CacheOptions& options = {},
                                                 heed::AnyRule rule = {}) {
  return heed::value_or_throw(heed::KvCache<P, Codec>::create(subject.policy, options, std::move(rule)));
}

}  // namespace heed_test
