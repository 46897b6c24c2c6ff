/// \file
/// What every mechanism with a KV cache shares: the cache of all layers, its step, and the call of the kernel.
#pragma once

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <heed/heed.hpp>

#include "model/backend.hpp"
#include "model/mixer.hpp"
#include "model/network.hpp"
#include "model/retention.hpp"

namespace heed_examples {

/// Policy P with rows stored by codec C; `rule` says which tokens stay. A mechanism derives from it, adds its projections
/// and writes mix() and formula_bytes().
template <heed::AttentionPolicy P, heed::Codec C>
class CachedMixer : public Mixer {
 public:
  using Cache = heed::KvCache<P, C, C>;

  CachedMixer(P policy, const ModelConfig& config, const ModelOptions& options)
      : max_positions_(config.max_positions),
        cache_(heed::value_or_throw(
            Cache::create(std::move(policy), cache_options(config, options), rule_of(config, options)))),
        kernel_(kernel_for<C>(*options.backend)),
        executor_(*options.executor) {}

  void begin(std::span<const std::int32_t> tokens) override {
    step_.reset();
    step_.emplace(heed::value_or_throw(cache_.begin(tokens)));
    // A cache that forgets has room where the model has no position any more.
    if (tokens.empty() || positions(0).back() < max_positions_) return;
    const heed::Index position = positions(0).back();
    step_.reset();
    heed::check(
        heed::fail(heed::StatusCode::out_of_range, "position is ", position, ", the model knows ", max_positions_));
  }
  void commit(heed::Index accepted) override {
    if (accepted == step_->tokens()) return heed::check(step_->commit());
    std::vector<heed::Index> kept(static_cast<std::size_t>(accepted));
    std::iota(kept.begin(), kept.end(), heed::Index{0});
    heed::check(step_->commit(kept));
  }
  void truncate(heed::Index tokens) override {
    step_.reset();
    heed::check(cache_.truncate(tokens));
  }
  void clear() override {
    step_.reset();
    heed::check(cache_.clear());
  }
  [[nodiscard]] heed::CacheBytes bytes() const override { return cache_.bytes(); }
  [[nodiscard]] heed::RetentionCounters retention() const override { return cache_.retention(); }
  [[nodiscard]] std::chrono::nanoseconds attention_time() const override { return time_; }

 protected:
  [[nodiscard]] const P& policy() const { return cache_.policy(); }
  /// Rotary positions of the step's tokens in a layer.
  [[nodiscard]] std::span<const heed::Index> positions(heed::Index layer) const { return step_->positions(layer); }

  /// Writes the step's rows (one matrix for each stream), then attends: `out` must have its size already.
  template <class... Rows>
  void attend(heed::Index layer, const Matrix& q, Matrix& out, const Rows&... rows) {
    attend_with(policy(), layer, q, out, rows...);
  }
  /// The same with a policy that also has the layer's weights, or whatever else the cache does not need.
  template <class... Rows>
  void attend_with(const P& policy, heed::Index layer, const Matrix& q, Matrix& out, const Rows&... rows) {
    const auto start = std::chrono::steady_clock::now();
    heed::check(step_->write(layer, numbers(rows)...));
    heed::check(heed::attend(kernel_, policy, numbers(q), step_->keys(layer), numbers(out), workspace_, executor_));
    time_ += std::chrono::steady_clock::now() - start;
  }

  /// The tensors of attention layer `layer` begin with this.
  [[nodiscard]] static std::string prefix(const AttentionConfig& config, heed::Index layer) {
    return "model.layers." + std::to_string(config.first_layer + layer) + ".self_attn.";
  }

  [[nodiscard]] static std::span<const float> numbers(const Matrix& m) { return {m.data(), std::size_t(m.size())}; }
  [[nodiscard]] static std::span<float> numbers(Matrix& m) { return {m.data(), std::size_t(m.size())}; }

 private:
  [[nodiscard]] static heed::AnyRule rule_of(const ModelConfig& config, const ModelOptions& options) {
    return options.rule ? *options.rule : trained_rule(config);
  }
  [[nodiscard]] static heed::CacheOptions cache_options(const ModelConfig& config, const ModelOptions& options) {
    heed::CacheOptions made{.layers = config.num_layers,
                            .capacity = std::min(options.capacity, config.max_positions),
                            .max_tokens = config.max_positions,
                            .positions = options.positions,
                            .memory = options.memory};
    if (!rule_of(config, options).same_as(heed::Causal{})) {
      made.capacity = 0;  // a cache that forgets takes pages as it needs them, and these are short texts
      made.page_tokens = 16;
    }
    return made;
  }

  heed::Index max_positions_;
  Cache cache_;
  std::optional<typename Cache::Step> step_;  // after the cache: it must go first
  const heed::Kernel& kernel_;
  heed::Workspace workspace_;
  heed::ThreadPool& executor_;
  std::chrono::nanoseconds time_{0};
};

}  // namespace heed_examples
