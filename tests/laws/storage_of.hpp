/// \file
/// Makes a Storage of two codecs. Included only by the files CMakeLists.txt generates.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include <gtest/gtest.h>

#include <heed/cache/kv_cache.hpp>
#include <heed/compiled.hpp>
#include <heed/math/maths.hpp>
#include <heed/partial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/policy/mla.hpp>
#include <heed/policy/shared_row.hpp>

#include "laws/subject.hpp"
#include "lists/plain_codecs.hpp"

namespace heed_test {

template <heed::KeyValueSource S>
class SourceOf final : public Source {
 public:
  explicit SourceOf(S source) : source_(std::move(source)) {}
  [[nodiscard]] Index size() const override { return source_.size(); }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index max) const override {
    return source_.row_run(stream, head, first, max);
  }
  [[nodiscard]] Index position(Index key) const override { return source_.position(key); }
  [[nodiscard]] std::optional<heed::RowBase> base(int stream, Index head) const override {
    if constexpr (heed::OffsetSource<S>) return source_.base(stream, head);
    return {};
  }

 private:
  S source_;
};

/// The other way round: gives a Source its codecs back.
template <class K, class V>
struct Coded {
  using KeyCodec = K;
  using ValueCodec = V;
  const Source* source = nullptr;
  [[nodiscard]] Index size() const { return source->size(); }
  [[nodiscard]] heed::RowRun row_run(int stream, Index head, Index first, Index max) const {
    return source->row_run(stream, head, first, max);
  }
  [[nodiscard]] Index position(Index key) const { return source->position(key); }
  [[nodiscard]] Index stages() const { return source->stages(); }
  [[nodiscard]] heed::Interval stage_queries(Index stage) const { return source->stage_queries(stage); }
  [[nodiscard]] Index stage_size(Index stage) const { return source->stage_size(stage); }
  [[nodiscard]] heed::RowRun stage_row_run(Index stage, int stream, Index head, Index first, Index max) const {
    return source->stage_row_run(stage, stream, head, first, max);
  }
  [[nodiscard]] Index stage_position(Index stage, Index key) const { return source->stage_position(stage, key); }
};
static_assert(heed::StagedSource<Coded<heed::F32, heed::F32>>);
/// The same of a source with base().
template <class K, class V>
struct CodedWithBase : Coded<K, V> {
  [[nodiscard]] heed::RowBase base(int stream, Index head) const { return *this->source->base(stream, head); }
};
static_assert(heed::OffsetSource<CodedWithBase<heed::F32, heed::F32>>);

template <class P, class K, class V>
class CacheOf final : public Cache {
 public:
  explicit CacheOf(const P& policy) : cache_(heed::value_or_throw(heed::KvCache<P, K, V>::create(policy, {}))) {}
  void append(std::span<const float> keys, std::span<const float> values) override {
    const heed::StreamShape shape = cache_.layout().streams[P::key_stream];
    auto step = heed::value_or_throw(cache_.begin(heed::NumTokens(Index(keys.size()) / (shape.num_heads * shape.width))));
    if constexpr (int(P::key_stream) == int(P::value_stream)) {
      heed::check(step.write(0, keys));
    } else {
      heed::check(step.write(0, keys, values));
    }
    heed::check(step.commit());
  }
  void truncate(Index tokens) override { heed::check(cache_.truncate(tokens)); }
  [[nodiscard]] std::unique_ptr<Source> keys() const override {
    return std::make_unique<SourceOf<typename heed::KvCache<P, K, V>::Keys>>(cache_.keys(0));
  }

 private:
  heed::KvCache<P, K, V> cache_;
};

/// MLA whose up-projections are unit matrices: its keys are the rows, its values the first numbers of them, exactly.
struct UnitMla {
  explicit UnitMla(const AttentionShape& s) {
    const Index rank = std::max(s.value_dim, s.key_dim - s.key_dim / 4), width = rank + s.value_dim;
    policy = {.num_heads = s.heads,
              .kv_lora_rank = rank,
              .qk_rope_head_dim = s.key_dim - rank,
              .qk_nope_head_dim = rank,
              .v_head_dim = s.value_dim,
              .scale = s.scale};
    uk.resize(std::size_t(s.heads * rank * rank));
    ukv.resize(std::size_t(s.heads * rank * width));
    for (Index i = 0; i < s.heads * rank; ++i) {
      const Index r = i % rank;
      uk[std::size_t(i * rank + r)] = ukv[std::size_t(i * width + r)] = 1;
      if (r < s.value_dim) ukv[std::size_t(i * width + rank + r)] = 1;
    }
    policy.weights = {uk, ukv};
  }

  std::vector<float> uk, ukv;
  heed::Mla policy;
};

template <class K, class V>
class StorageOf final : public Storage {
 public:
  heed::Status attend(const heed::Kernel& kernel, const AttentionShape& shape, std::span<const Call> calls,
                      heed::Workspace& workspace, AnyExecutor executor,
                      const heed::AttendOptions& options) const override {
    std::vector<Coded<K, V>> sources;
    for (const Call& call : calls) sources.push_back({call.keys});
    std::vector<heed::Sequence<Coded<K, V>>> sequences;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const Call& c = calls[i];
      sequences.push_back({c.keys == nullptr ? nullptr : &sources[i], c.mask, c.q, c.out, c.lse, c.query_positions});
    }
    return with_policy(shape, [&](const auto& policy) {
      heed::Status status = heed::attend_batch(kernel, policy, std::span<const heed::Sequence<Coded<K, V>>>(sequences),
                                               workspace, executor, options);
      // Hooks would be called again.
      if (status.ok() && kernel.hooks == nullptr) expect_plan(kernel, policy, calls, executor, options);
      return status;
    });
  }
  heed::Status attend_planned(const heed::Kernel& kernel, const AttentionShape& shape, std::span<const Call> calls,
                              heed::Workspace& workspace, AnyExecutor executor,
                              const heed::AttendOptions& options) const override {
    return with_policy(shape, [&](const auto& policy) {
      const auto run = [&]<class S>(S) {
        const heed::Plan plan = plan_of<S>(policy, calls, executor.workers());
        const std::vector<S> sources = sources_of<S>(calls);
        std::vector<heed::LayerIo<S>> io;
        for (std::size_t i = 0; i < calls.size(); ++i) {
          io.push_back({&sources[i], calls[i].q, calls[i].out, calls[i].lse});
        }
        return heed::attend(kernel, plan, policy, std::span<const heed::LayerIo<S>>(io), workspace, executor, options);
      };
      return all_have_base(calls) ? run(CodedWithBase<K, V>{}) : run(Coded<K, V>{});
    });
  }
  heed::Status attend_partial(const heed::Kernel& kernel, const AttentionShape& shape,
                              std::span<const PartialCall> calls, heed::Workspace& workspace, AnyExecutor executor,
                              const heed::AttendOptions& options) const override {
    std::vector<Coded<K, V>> sources;
    for (const PartialCall& call : calls) sources.push_back({call.keys});
    std::vector<heed::PartialSequence<Coded<K, V>>> sequences;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const PartialCall& c = calls[i];
      sequences.push_back({&sources[i], c.mask, c.q, c.range, c.states, c.query_positions});
    }
    return with_policy(shape, [&](const auto& policy) {
      return heed::attend_partial_batch(kernel, policy, std::span<const heed::PartialSequence<Coded<K, V>>>(sequences),
                                        workspace, executor, options);
    });
  }
  heed::Status attend_finish(const heed::Kernel& kernel, const AttentionShape& shape,
                             std::span<const heed::FinishSequence> sequences, heed::Workspace& workspace,
                             AnyExecutor executor, const heed::AttendOptions& options) const override {
    return with_policy(shape, [&](const auto& policy) {
      return heed::attend_finish_batch(kernel, policy, sequences, workspace, executor, options);
    });
  }
  [[nodiscard]] PartialBytes partial_bytes(const heed::Kernel& kernel, const AttentionShape& shape,
                                           const PartialSizes& s) const override {
    return with_policy(shape, [&](const auto& policy) {
      return PartialBytes{
          heed::value_or_throw(heed::partial_states_bytes(policy, s.queries, s.keys, s.range)),
          heed::value_or_throw(
              heed::partial_workspace_bytes(kernel, policy, s.queries, s.keys, s.range, s.workers, s.stages)),
          heed::value_or_throw(heed::finish_workspace_bytes(policy, s.queries, s.nodes, s.workers))};
    });
  }
  [[nodiscard]] heed::KeyRange key_chunks(const Source& keys, heed::MaskRef mask) const override {
    return heed::key_chunks(Coded<K, V>{&keys}, mask);
  }
  [[nodiscard]] heed::Result<std::size_t> workspace_bytes(const heed::Kernel& kernel, const AttentionShape& shape,
                                                          Index queries, Index keys, Index workers,
                                                          Index stages) const override {
    return with_policy(shape, [&](const auto& policy) {
      return heed::workspace_bytes(kernel, policy, queries, keys, workers, stages);
    });
  }
  [[nodiscard]] std::unique_ptr<Cache> cache(const AttentionShape& shape) const override {
    return with_policy(shape, [&]<class P>(const P& policy) -> std::unique_ptr<Cache> {
      if constexpr (std::is_same_v<P, heed::MlaExpanded>) {
        return std::make_unique<CacheOf<heed::Mla, K, V>>(policy.mla);
      } else {
        return std::make_unique<CacheOf<P, K, V>>(policy);
      }
    });
  }
  [[nodiscard]] std::unique_ptr<Source> strided(Index tokens, const heed::StridedStream& keys,
                                                const heed::StridedStream& values, Index first) const override {
    using Strided = heed::StridedSource<K, V>;
    return std::make_unique<SourceOf<Strided>>(Strided(tokens, keys, values, first));
  }
  [[nodiscard]] std::vector<std::byte> encode_keys(std::span<const float> numbers) const override {
    return encode<K>(numbers);
  }
  [[nodiscard]] std::vector<std::byte> encode_values(std::span<const float> numbers) const override {
    return encode<V>(numbers);
  }

 private:
  // A plan gives the bits that were just written, whatever the law is about. Layers of a step: twice the same one.
  template <class P>
  static void expect_plan(const heed::Kernel& kernel, const P& policy, std::span<const Call> calls,
                          AnyExecutor executor, const heed::AttendOptions& options) {
    if (all_have_base(calls)) {
      expect_plan_of<CodedWithBase<K, V>>(kernel, policy, calls, executor, options);
    } else {
      expect_plan_of<Coded<K, V>>(kernel, policy, calls, executor, options);
    }
  }
  [[nodiscard]] static bool all_have_base(std::span<const Call> calls) {
    return std::all_of(calls.begin(), calls.end(), [](const Call& call) { return call.keys->base(0, 0).has_value(); });
  }
  template <class S>
  [[nodiscard]] static std::vector<S> sources_of(std::span<const Call> calls) {
    std::vector<S> sources(calls.size());
    for (std::size_t i = 0; i < calls.size(); ++i) sources[i].source = calls[i].keys;
    return sources;
  }
  template <class S, class P>
  [[nodiscard]] static heed::Plan plan_of(const P& policy, std::span<const Call> calls, Index workers) {
    const heed::detail::PolicyParts<P> parts(policy);
    const Index q_row = parts.ref().layout.num_heads * parts.ref().query_width();
    const std::vector<S> first = sources_of<S>(calls);  // they end before a layer runs
    std::vector<heed::PlannedSequence<S>> planned;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      planned.push_back({&first[i], Index(calls[i].q.size()) / q_row, calls[i].mask, calls[i].query_positions});
    }
    heed::Plan plan;
    const heed::Status status = plan.make(policy, std::span<const heed::PlannedSequence<S>>(planned), workers);
    EXPECT_TRUE(status.ok()) << status.message();
    return plan;
  }
  template <class S, class P>
  static void expect_plan_of(const heed::Kernel& kernel, const P& policy, std::span<const Call> calls,
                             AnyExecutor executor, const heed::AttendOptions& options) {
    const heed::Plan plan = plan_of<S>(policy, calls, executor.workers());
    heed::Workspace workspace;
    for (int layer = 0; layer < 2; ++layer) {
      const std::vector<S> sources = sources_of<S>(calls);
      std::vector<std::vector<float>> outs, lses;
      std::vector<heed::LayerIo<S>> io;
      for (std::size_t i = 0; i < calls.size(); ++i) {
        outs.emplace_back(calls[i].out.size(), 17.0f);
        lses.emplace_back(calls[i].lse.size(), 17.0f);
      }
      for (std::size_t i = 0; i < calls.size(); ++i) io.push_back({&sources[i], calls[i].q, outs[i], lses[i]});
      const heed::Status status =
          heed::attend(kernel, plan, policy, std::span<const heed::LayerIo<S>>(io), workspace, executor, options);
      ASSERT_TRUE(status.ok()) << status.message();
      const auto same = [](std::span<const float> a, std::span<const float> b) {
        return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
      };
      for (std::size_t i = 0; i < calls.size(); ++i) {
        ASSERT_TRUE(same(outs[i], calls[i].out) && same(lses[i], calls[i].lse)) << "plan, layer " << layer;
      }
    }
  }
  template <class F>
  static auto with_policy(const AttentionShape& s, const F& f) {
    if constexpr (std::is_same_v<K, V>) {
      switch (s.mechanism) {
        case Mechanism::shared_row:
          return f(heed::SharedRow{.num_heads = s.heads,
                                   .num_kv_heads = s.kv_heads,
                                   .head_dim = s.key_dim,
                                   .v_head_dim = s.value_dim,
                                   .scale = s.scale});
        case Mechanism::mfa_kr: return f(heed::MfaKr{.num_heads = s.heads, .head_dim = s.key_dim, .scale = s.scale});
        case Mechanism::mla: return f(UnitMla(s).policy);
        case Mechanism::mla_expanded: return f(heed::MlaExpanded{UnitMla(s).policy});
        default: break;
      }
    }
    switch (s.mechanism) {
      case Mechanism::mha:
        return f(heed::Mha{.num_heads = s.heads, .head_dim = s.key_dim, .v_head_dim = s.value_dim, .scale = s.scale});
      case Mechanism::mqa:
        return f(heed::Mqa{.num_heads = s.heads, .head_dim = s.key_dim, .v_head_dim = s.value_dim, .scale = s.scale});
      case Mechanism::mfa: return f(heed::Mfa{.num_heads = s.heads, .head_dim = s.key_dim, .scale = s.scale});
      default: break;
    }
    return f(heed::Gqa{.num_heads = s.heads,
                       .num_kv_heads = s.kv_heads,
                       .head_dim = s.key_dim,
                       .v_head_dim = s.value_dim,
                       .scale = s.scale});
  }
  template <class C>
  static std::vector<std::byte> encode(std::span<const float> numbers) {
    std::vector<std::byte> bytes(std::size_t(C::row_bytes(Index(numbers.size()))));
    C::encode(numbers.data(), Index(numbers.size()), bytes.data(), nullptr);
    return bytes;
  }
};

/// Adds the kernels of one backend for two codecs, in every math.
template <class K, class V, class Backend>
void add_subject(const Storage& storage) {
  heed::Maths::for_each([&]<class Math>() { subjects().push_back({heed::kernel<Backend, K, V, Math>(), storage}); });
}

/// Adds the kernels of some backends for two codecs, if the foreign rows of these laws can be of them.
template <class K, class V, class... Backends>
bool add_subjects() {
  if constexpr (PlainCodec<K> && PlainCodec<V>) {
    static const StorageOf<K, V> storage;
    (add_subject<K, V, Backends>(storage), ...);
  }
  return true;
}

}  // namespace heed_test
