/// \file
/// DeepSeek-V3's mixture of experts (arXiv 2412.19437): one shared expert for every token, and of the routed ones the few
/// that its gate chooses.
///
///     s = sigmoid(x Wg^T),   s' = s + bias, for choosing only
///     groups of experts by the sum of their two best s'; the topk_group best groups stay
///     of their experts the num_experts_per_tok best s';   weights = s of those, divided by their sum, times a factor
///     y = shared(x) + sum of weight * expert(x)
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "model/config.hpp"
#include "model/feed_forward.hpp"

namespace heed_examples {

/// The gate's part of a config, checked.
struct RouterConfig {
  explicit RouterConfig(const ConfigKeys& keys)
      : experts(keys.integer("n_routed_experts", 1, 1 << 12)),
        chosen(keys.integer("num_experts_per_tok", 1, experts)),
        groups(keys.integer("n_group", 1, experts)),
        chosen_groups(keys.integer("topk_group", 1, groups)),
        normalised(keys.flag("norm_topk_prob")),
        factor(float(keys.positive("routed_scaling_factor"))) {
    if (keys.text("scoring_func") != "sigmoid") keys.fail("config 'scoring_func' must be \"sigmoid\"");
    if (keys.text("topk_method") != "noaux_tc") keys.fail("config 'topk_method' must be \"noaux_tc\"");
    const heed::Index size = experts / groups;
    if (experts % groups != 0 || size < 2 || chosen > chosen_groups * size) {
      keys.fail("config 'n_group' is " + std::to_string(groups) + ", must divide n_routed_experts " +
                std::to_string(experts) + " into groups of 2 or more, and topk_group of them hold num_experts_per_tok");
    }
  }

  heed::Index experts, chosen, groups, chosen_groups;
  bool normalised;
  float factor;
};

/// Chooses experts for one token after another.
class Router {
 public:
  Router(TensorReader& tensors, const std::string& name, const RouterConfig& config, heed::Index hidden)
      : config_(config),
        weight_(tensors.projection(name + "weight", config.experts, hidden)),
        bias_(tensors.vector(name + "e_score_correction_bias", config.experts)) {}

  struct Choice {
    heed::Index expert = 0;
    float weight = 0;
  };

  /// The experts of one row, best first; of equal ones the first. They live until the next call.
  [[nodiscard]] const std::vector<Choice>& choose(const Matrix& row) {
    linear(row, weight_, logits_);
    scores_ = (1 + (-logits_.row(0).array()).exp()).inverse().matrix();
    biased_ = scores_ + bias_;
    drop_groups();
    order_.resize(std::size_t(config_.experts));
    std::iota(order_.begin(), order_.end(), heed::Index{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](heed::Index a, heed::Index b) { return biased_(a) > biased_(b); });
    choices_.clear();
    float sum = 0;
    for (heed::Index i = 0; i < config_.chosen; ++i) {
      const heed::Index expert = order_[std::size_t(i)];
      choices_.push_back({expert, scores_(expert)});
      sum += scores_(expert);
    }
    for (Choice& choice : choices_) choice.weight *= config_.factor / (config_.normalised ? sum : 1);
    return choices_;
  }

 private:
  // Experts of groups that are not chosen fall behind all others.
  void drop_groups() {
    const heed::Index size = config_.experts / config_.groups;
    std::vector<float> best;
    for (heed::Index g = 0; g < config_.groups; ++g) {
      Vector group = biased_.segment(g * size, size);
      std::partial_sort(group.begin(), group.begin() + 2, group.end(), std::greater<>());
      best.push_back(group(0) + group(1));
    }
    std::vector<heed::Index> order(best.size());
    std::iota(order.begin(), order.end(), heed::Index{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](heed::Index a, heed::Index b) { return best[std::size_t(a)] > best[std::size_t(b)]; });
    for (auto g = order.begin() + config_.chosen_groups; g != order.end(); ++g) {
      biased_.segment(*g * size, size).setConstant(-std::numeric_limits<float>::infinity());
    }
  }

  RouterConfig config_;
  heed::Projection weight_;
  Matrix logits_;
  Vector bias_, scores_, biased_;
  std::vector<heed::Index> order_;
  std::vector<Choice> choices_;
};

class MixtureOfExperts : public FeedForward {
 public:
  /// `name` is "model.layers.1.mlp." and the like.
  MixtureOfExperts(const ModelConfig& config, TensorReader& tensors, const std::string& name)
      : MixtureOfExperts(config, tensors, name, config.keys.integer("moe_intermediate_size", 1, 1 << 18)) {}

  void apply(const Matrix& x, Matrix& out) override {
    shared_.apply(x, out);
    for (heed::Index t = 0; t < x.rows(); ++t) {
      row_ = x.row(t);
      sum_ = out.row(t);  // aligned, as alone
      for (const Router::Choice& choice : router_.choose(row_)) {
        experts_[std::size_t(choice.expert)].apply(row_, expert_out_);
        sum_ += choice.weight * expert_out_;
      }
      out.row(t) = sum_;
    }
  }

 private:
  MixtureOfExperts(const ModelConfig& config, TensorReader& tensors, const std::string& name, heed::Index inner)
      : shared_(tensors, name + "shared_experts.", config.hidden_size,
                inner * config.keys.integer("n_shared_experts", 1, 1 << 8)),
        router_(tensors, name + "gate.", RouterConfig(config.keys), config.hidden_size) {
    const heed::Index experts = RouterConfig(config.keys).experts;
    for (heed::Index e = 0; e < experts; ++e) {
      experts_.emplace_back(tensors, name + "experts." + std::to_string(e) + ".", config.hidden_size, inner);
    }
  }

  SwiGlu shared_;
  Router router_;
  std::vector<SwiGlu> experts_;
  Matrix row_, sum_, expert_out_;
};

}  // namespace heed_examples
