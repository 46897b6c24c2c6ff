// DeepSeek's mixture of experts: the router against a plain float64 derivation, the mixture against one of its parts, and
// what a config may say.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "demo/models.hpp"
#include "model/moe.hpp"
#include "oracle/random.hpp"

namespace heed_test::moe_test {
namespace {

using heed::Index;
using heed_examples::ConfigKeys;
using heed_examples::MixtureOfExperts;
using heed_examples::ModelConfig;
using heed_examples::ModelError;
using heed_examples::Router;
using heed_examples::RouterConfig;
using heed_examples::TensorReader;

struct Sizes {
  Index hidden = 32, inner = 16, experts = 32, chosen = 6, groups = 8, chosen_groups = 3, shared = 2;
  bool normalised = true;
  double factor = 2.5;
};

/// A file with a mixture named "moe." and its config.
ModelFile moe_file(const Sizes& s = {}) {
  ModelFile file;
  file.config = {{"mechanism", "gqa"},
                 {"vocab_size", 256},
                 {"hidden_size", s.hidden},
                 {"num_hidden_layers", 1},
                 {"intermediate_size", 8},
                 {"max_position_embeddings", 20},
                 {"rms_norm_eps", 1e-5},
                 {"tie_word_embeddings", true},
                 {"n_routed_experts", s.experts},
                 {"num_experts_per_tok", s.chosen},
                 {"n_group", s.groups},
                 {"topk_group", s.chosen_groups},
                 {"n_shared_experts", s.shared},
                 {"moe_intermediate_size", s.inner},
                 {"norm_topk_prob", s.normalised},
                 {"routed_scaling_factor", s.factor},
                 {"scoring_func", "sigmoid"},
                 {"topk_method", "noaux_tc"}};
  file.add("moe.gate.weight", {s.experts, s.hidden});
  file.add("moe.gate.e_score_correction_bias", {s.experts});
  const auto expert = [&](const std::string& name, Index inner) {
    file.add(name + "gate_proj.weight", {inner, s.hidden});
    file.add(name + "up_proj.weight", {inner, s.hidden});
    file.add(name + "down_proj.weight", {s.hidden, inner});
  };
  expert("moe.shared_experts.", s.inner * s.shared);
  for (Index e = 0; e < s.experts; ++e) expert("moe.experts." + std::to_string(e) + ".", s.inner);
  return file;
}

/// A file that is open, and what reads it.
struct Opened {
  explicit Opened(const ModelFile& parts)
      : file(Safetensors::parse(parts.bytes(), "moe")), keys(file, "moe"), tensors(file, "moe") {}
  Safetensors file;
  ConfigKeys keys;
  TensorReader tensors;
};

const std::vector<float>& numbers(const ModelFile& file, const std::string& name) {
  return file.tensors.at(name).second;
}

Matrix random_rows(Index rows, Index width, std::uint64_t seed) {
  oracle::Random random(seed);
  Matrix x(rows, width);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = float(random.gaussian());
  return x;
}

struct Choice {
  Index expert;
  double weight;
};

/// Experts of a row as the report says, in float64 and without sorting: the largest again and again, of equal ones the first.
std::vector<Choice> routed(const ModelFile& file, const Sizes& s, const Matrix& x, Index row) {
  const auto &gate = numbers(file, "moe.gate.weight"), &bias = numbers(file, "moe.gate.e_score_correction_bias");
  std::vector<double> score, biased;
  for (Index e = 0; e < s.experts; ++e) {
    double sum = 0;
    for (Index i = 0; i < s.hidden; ++i) sum += double(x(row, i)) * double(gate[std::size_t(e * s.hidden + i)]);
    score.push_back(1 / (1 + std::exp(-sum)));
    biased.push_back(score.back() + double(bias[std::size_t(e)]));
  }
  const auto take_largest = [](const std::vector<double>& of, std::vector<bool>& open) {
    std::size_t best = of.size();
    for (std::size_t i = 0; i < of.size(); ++i) {
      if (open[i] && (best == of.size() || of[i] > of[best])) best = i;
    }
    open[best] = false;
    return best;
  };
  const Index size = s.experts / s.groups;
  std::vector<double> of_group;
  for (Index g = 0; g < s.groups; ++g) {
    const std::vector<double> members(biased.begin() + g * size, biased.begin() + (g + 1) * size);
    std::vector<bool> open(members.size(), true);
    const double first = members[take_largest(members, open)];
    of_group.push_back(first + members[take_largest(members, open)]);
  }
  std::vector<bool> groups(of_group.size(), true), experts(score.size(), false);
  for (Index i = 0; i < s.chosen_groups; ++i) {
    const std::size_t g = take_largest(of_group, groups);
    std::fill_n(experts.begin() + std::ptrdiff_t(g) * size, size, true);
  }
  std::vector<Choice> made;
  double sum = 0;
  for (Index i = 0; i < s.chosen; ++i) {
    const std::size_t e = take_largest(biased, experts);
    made.push_back({Index(e), score[e]});
    sum += score[e];
  }
  for (Choice& one : made) one.weight *= s.factor / (s.normalised ? sum : 1);
  return made;
}

const std::vector<Sizes>& router_sizes() {
  static const std::vector<Sizes> all{{},
                                      {.experts = 64, .chosen = 8, .groups = 8, .chosen_groups = 4},
                                      {.experts = 16, .chosen = 4, .groups = 1, .chosen_groups = 1},
                                      {.experts = 16, .chosen = 8, .groups = 4, .chosen_groups = 2},
                                      {.experts = 16, .chosen = 1, .groups = 8, .chosen_groups = 8},
                                      {.hidden = 7, .experts = 10, .chosen = 3, .groups = 5, .chosen_groups = 2},
                                      {.experts = 12, .chosen = 12, .groups = 2, .chosen_groups = 2},
                                      {.normalised = false, .factor = 1},
                                      {.normalised = false, .factor = 16}};
  return all;
}

TEST(Router, ChoosesAsTheReportSays) {
  for (const Sizes& s : router_sizes()) {
    const ModelFile file = moe_file(s);
    Opened open(file);
    Router router(open.tensors, "moe.gate.", RouterConfig(open.keys), s.hidden);
    const Matrix x = random_rows(200, s.hidden, 1);
    for (Index row = 0; row < x.rows(); ++row) {
      const std::vector<Choice> want = routed(file, s, x, row);
      const auto& got = router.choose(x.row(row));
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(got[i].expert, want[i].expert) << "row " << row << ", choice " << i;
        ASSERT_NEAR(got[i].weight, want[i].weight, 3e-6 * s.factor);
      }
    }
  }
}

/// A gate of this bias whose scores are all alike.
std::vector<Router::Choice> chosen_by_bias(const Sizes& s, const std::vector<float>& bias) {
  ModelFile file = moe_file(s);
  std::ranges::fill(file.tensors["moe.gate.weight"].second, 0.0f);
  file.tensors["moe.gate.e_score_correction_bias"].second = bias;
  Opened open(file);
  Router router(open.tensors, "moe.gate.", RouterConfig(open.keys), s.hidden);
  return router.choose(random_rows(1, s.hidden, 2));
}
std::vector<Index> experts_of(const std::vector<Router::Choice>& choices) {
  std::vector<Index> all;
  for (const Router::Choice& one : choices) all.push_back(one.expert);
  return all;
}

TEST(Router, OfEqualExpertsTakesTheFirst) {
  const Sizes s{.experts = 12, .chosen = 5, .groups = 4, .chosen_groups = 2};
  EXPECT_EQ(experts_of(chosen_by_bias(s, std::vector<float>(12))), (std::vector<Index>{0, 1, 2, 3, 4}));
  // Groups 1, 2 and 3 are equal and better than group 0; expert 7 is best.
  EXPECT_EQ(experts_of(chosen_by_bias(s, {0, 0, 0, 1, 1, 0, 0, 2, 0, 1, 1, 0})), (std::vector<Index>{7, 3, 4, 5, 6}));
}

/// Two best of a group count, not the best one, and not the sum of all.
TEST(Router, WeighsAGroupByItsTwoBest) {
  const Sizes s{.experts = 12, .chosen = 3, .groups = 4, .chosen_groups = 1};
  EXPECT_EQ(experts_of(chosen_by_bias(s, {5, 0, 0, 3, 3, 0, 2, 2, 2, 0, 0, 0})), (std::vector<Index>{3, 4, 5}));
}

TEST(Router, UsesTheBiasForChoosingOnly) {
  const Sizes s{.experts = 8, .chosen = 2, .groups = 2, .chosen_groups = 1, .factor = 3};
  const auto choices = chosen_by_bias(s, {0, 0, 0, 0, -7, 9, 0, 8});
  EXPECT_EQ(experts_of(choices), (std::vector<Index>{5, 7}));
  for (const Router::Choice& one : choices) EXPECT_EQ(one.weight, 1.5f) << "half of the factor: both score 0.5";
  Sizes plain = s;
  plain.normalised = false;
  for (const Router::Choice& one : chosen_by_bias(plain, {0, 0, 0, 0, -7, 9, 0, 8})) EXPECT_EQ(one.weight, 1.5f);
  plain.factor = 1;
  for (const Router::Choice& one : chosen_by_bias(plain, {0, 0, 0, 0, -7, 9, 0, 8})) EXPECT_EQ(one.weight, 0.5f);
}

TEST(Router, MayKeepGroupsWhoseBiasIsNegative) {
  const Sizes s{.experts = 8, .chosen = 4, .groups = 4, .chosen_groups = 2};
  EXPECT_EQ(experts_of(chosen_by_bias(s, {-9, -9, -1, -2, -9, -9, -3, -4})), (std::vector<Index>{2, 3, 6, 7}));
}

// --- the mixture --------------------------------------------------------------------------------------------------------

/// down(silu(gate x) up x) in float64.
std::vector<double> expert_of(const ModelFile& file, const std::string& name, const Matrix& x, Index row, Index hidden,
                              Index inner) {
  const auto &gate = numbers(file, name + "gate_proj.weight"), &up = numbers(file, name + "up_proj.weight"),
             &down = numbers(file, name + "down_proj.weight");
  const auto dot = [](const std::vector<float>& w, Index out, Index in, const auto& at) {
    double sum = 0;
    for (Index i = 0; i < in; ++i) sum += double(w[std::size_t(out * in + i)]) * at(i);
    return sum;
  };
  const auto number = [&](Index i) { return double(x(row, i)); };
  std::vector<double> middle, y;
  for (Index o = 0; o < inner; ++o) {
    const double g = dot(gate, o, hidden, number);
    middle.push_back(g / (1 + std::exp(-g)) * dot(up, o, hidden, number));
  }
  for (Index o = 0; o < hidden; ++o) y.push_back(dot(down, o, inner, [&](Index i) { return middle[std::size_t(i)]; }));
  return y;
}

const std::vector<Sizes>& mixture_sizes() {
  static const std::vector<Sizes> all{{},
                                      {.experts = 8, .chosen = 1, .groups = 1, .chosen_groups = 1, .shared = 1},
                                      {.hidden = 7, .inner = 5, .experts = 10, .chosen = 3, .groups = 5},
                                      {.normalised = false, .factor = 1}};
  return all;
}

TEST(MixtureOfExperts, IsTheSharedExpertsAndTheWeightedChosenOnes) {
  for (const Sizes& s : mixture_sizes()) {
    const ModelFile file = moe_file(s);
    Opened open(file);
    MixtureOfExperts mixture(ModelConfig(open.keys), open.tensors, "moe.");
    EXPECT_NO_THROW(open.tensors.finish()) << "every tensor is used";
    const Matrix x = random_rows(9, s.hidden, 3);
    Matrix got;
    mixture.apply(x, got);
    ASSERT_EQ(got.rows(), 9);
    for (Index row = 0; row < 9; ++row) {
      std::vector<double> want = expert_of(file, "moe.shared_experts.", x, row, s.hidden, s.inner * s.shared);
      for (const Choice& one : routed(file, s, x, row)) {
        const auto y = expert_of(file, "moe.experts." + std::to_string(one.expert) + ".", x, row, s.hidden, s.inner);
        for (std::size_t i = 0; i < y.size(); ++i) want[i] += one.weight * y[i];
      }
      for (Index i = 0; i < s.hidden; ++i) {
        ASSERT_NEAR(got(row, i), want[std::size_t(i)], 2e-5 * std::max(1.0, std::abs(want[std::size_t(i)])));
      }
    }
  }
}

TEST(MixtureOfExperts, RowsHaveTheSameBitsAloneAndTogether) {
  for (const Sizes& s : mixture_sizes()) {
    Opened open(moe_file(s));
    MixtureOfExperts mixture(ModelConfig(open.keys), open.tensors, "moe.");
    const Matrix x = random_rows(33, s.hidden, 4);
    Matrix together, alone, some;
    mixture.apply(x, together);
    mixture.apply(x.middleRows(5, 7), some);
    EXPECT_EQ(some, together.middleRows(5, 7)) << s.hidden;
    for (Index row = 0; row < x.rows(); ++row) {
      mixture.apply(x.row(row), alone);
      ASSERT_EQ(alone, together.row(row)) << "row " << row << " of width " << s.hidden;
    }
  }
}

/// A decoder whose first layer is dense and whose second one routes.
TEST(MixtureOfExperts, StandsInADecoderFromTheFirstRoutedLayerOn) {
  ModelFile file = small_file("gqa");
  const ModelFile mixture =
      moe_file({.hidden = 10, .inner = 3, .experts = 4, .chosen = 2, .groups = 2, .chosen_groups = 1});
  for (const auto& [key, value] : mixture.config.items()) {
    if (!file.config.contains(key)) file.config[key] = value;
  }
  file.config["first_k_dense_replace"] = 1;
  for (const auto& [name, tensor] : mixture.tensors) file.tensors["model.layers.1.mlp" + name.substr(3)] = tensor;
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    file.tensors.erase(std::string("model.layers.1.mlp.") + name + ".weight");
  }
  LanguageModel model = load(file.bytes());
  const std::vector<std::uint8_t> text{'I', 'n', ' ', 't', 'h', 'e', ' ', 'b'};
  const Matrix at_once = model.forward(text);
  EXPECT_TRUE(at_once.allFinite());
  model.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    EXPECT_LT((model.forward(std::span(text).subspan(i, 1)) - at_once.row(Index(i))).cwiseAbs().maxCoeff(), 1e-5f);
  }
  file.config["first_k_dense_replace"] = 2;
  EXPECT_THROW((void)load(file.bytes()), std::exception) << "layer 1 has no dense tensors";
}

// --- configs ------------------------------------------------------------------------------------------------------------

TEST(MixtureOfExperts, ConfigsThatMeanNothingAreRefused) {
  const auto refused = [](const std::function<void(nlohmann::json&)>& change) -> std::string {
    ModelFile file = moe_file();
    change(file.config);
    Opened open(file);
    try {
      const MixtureOfExperts mixture(ModelConfig(open.keys), open.tensors, "moe.");
    } catch (const ModelError& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto with = [&](const char* key, const nlohmann::json& value) {
    return refused([&](nlohmann::json& config) { config[key] = value; });
  };
  EXPECT_EQ(with("n_group", 8), "accepted");
  EXPECT_EQ(with("scoring_func", "softmax"), "moe: config 'scoring_func' must be \"sigmoid\"");
  EXPECT_EQ(with("topk_method", "greedy"), "moe: config 'topk_method' must be \"noaux_tc\"");
  const auto groups = [](int count) {
    return "moe: config 'n_group' is " + std::to_string(count) +
           ", must divide n_routed_experts 32 into groups of 2 or more, and topk_group of them hold "
           "num_experts_per_tok";
  };
  EXPECT_EQ(with("n_group", 5), groups(5));
  EXPECT_EQ(with("n_group", 32), groups(32)) << "groups of one";
  EXPECT_EQ(with("num_experts_per_tok", 13), groups(8)) << "3 groups of 4 hold 12";
  EXPECT_EQ(with("num_experts_per_tok", 12), "accepted");
  EXPECT_EQ(with("num_experts_per_tok", 33), "moe: config 'num_experts_per_tok' is 33, must be an integer in 1 .. 32");
  EXPECT_EQ(with("n_routed_experts", 0), "moe: config 'n_routed_experts' is 0, must be an integer in 1 .. 4096");
  EXPECT_EQ(with("topk_group", 9), "moe: config 'topk_group' is 9, must be an integer in 1 .. 8");
  EXPECT_EQ(with("routed_scaling_factor", 0), "moe: config 'routed_scaling_factor' is 0, must be a positive number");
  EXPECT_EQ(with("norm_topk_prob", 1), "moe: config 'norm_topk_prob' is 1, must be true or false");
  for (const char* key : {"num_experts_per_tok", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor",
                          "scoring_func", "topk_method", "n_shared_experts", "moe_intermediate_size"}) {
    EXPECT_EQ(refused([&](nlohmann::json& config) { config.erase(key); }),
              "moe: config has no '" + std::string(key) + "'");
  }
}

TEST(MixtureOfExperts, TensorsOfAnotherShapeAreNamed) {
  for (const char* name : {"moe.gate.weight", "moe.gate.e_score_correction_bias", "moe.experts.31.down_proj.weight",
                           "moe.shared_experts.up_proj.weight"}) {
    ModelFile file = moe_file();
    file.add(name, {3, 3});
    Opened open(file);
    try {
      const MixtureOfExperts mixture(ModelConfig(open.keys), open.tensors, "moe.");
      ADD_FAILURE() << name;
    } catch (const ModelError& error) {
      EXPECT_NE(std::string(error.what()).find(std::string("tensor '") + name + "' has shape [3, 3]"),
                std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace heed_test::moe_test
