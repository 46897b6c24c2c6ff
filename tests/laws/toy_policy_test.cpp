// A policy with maps at both edges and prepared rows is the explicit computation, bit for bit.
#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>

#include "policy/backend.hpp"
#include "laws/problem.hpp"

namespace heed_test::toy_policy_test {
namespace {

/// out[o] = sum_i weight[head][o][i] in[i], i ascending.
struct Matrices {
  Index in = 1, out = 1;
  std::vector<float> weights = {};  // [heads][out][in]

  [[nodiscard]] Index in_width() const { return in; }
  [[nodiscard]] Index out_width() const { return out; }
  void apply(Index head, Index rows, const float* x, Index in_stride, float* y, Index out_stride, heed::Linear = nullptr) const {
    for (Index r = 0; r < rows; ++r) {
      for (Index o = 0; o < out; ++o) {
        float sum = 0;
        for (Index i = 0; i < in; ++i) sum += weights[std::size_t((head * out + o) * in + i)] * x[r * in_stride + i];
        y[r * out_stride + o] = sum;
      }
    }
  }
};

/// Keys and values of every KV head from one latent row; keys also depend on the position.
struct Expansion {
  const Matrices* to_keys = nullptr;
  const Matrices* to_values = nullptr;

  [[nodiscard]] bool makes_values() const { return true; }
  void keys(Index kv_head, Index count, const float* rows, const Index* positions, float* out, heed::Linear) const {
    to_keys->apply(kv_head, count, rows, to_keys->in, out, to_keys->out);
    for (Index i = 0; i < count; ++i) out[i * to_keys->out] += 0.001f * float(positions[i]);
  }
  void values(Index kv_head, Index count, const float* rows, const Index*, float* out, heed::Linear) const {
    to_values->apply(kv_head, count, rows, to_values->in, out, to_values->out);
  }
};

constexpr Index heads = 4, kv_heads = 2, latent = 19, model_width = 11, key_width = 13, value_width = 21, out_width = 5;

struct Toy {
  Matrices queries, keys, values, outputs;

  static constexpr int key_stream = 0;
  static constexpr int value_stream = 0;
  [[nodiscard]] heed::Status validate() const { return {}; }
  [[nodiscard]] heed::AttentionLayout layout() const {
    return {.num_streams = 1,
            .streams = {heed::StreamShape{1, latent}},
            .key = {.stream = 0, .offset = 0, .width = latent},
            .value = {.stream = 0, .offset = 0, .width = latent},
            .num_heads = heads,
            .num_kv_heads = kv_heads,
            .key_width = key_width,
            .value_width = value_width,
            .scale = 0.3f};
  }
  [[nodiscard]] const Matrices& query_map() const { return queries; }
  [[nodiscard]] const Matrices& output_map() const { return outputs; }
  [[nodiscard]] Expansion preparation() const { return {&keys, &values}; }
};
static_assert(heed::AttentionPolicy<Toy> && heed::HeadMap<Matrices> && heed::RowPreparation<Expansion>);

/// The same without making values: the value view is cached, beside what the keys are made of.
struct PreparedKeys {
  Matrices weights;
  struct Preparation {
    const Matrices* weights = nullptr;
    [[nodiscard]] bool makes_values() const { return false; }
    void keys(Index kv_head, Index count, const float* rows, const Index*, float* out, heed::Linear) const {
      weights->apply(kv_head, count, rows, weights->in, out, weights->out);
    }
    void values(Index, Index, const float*, const Index*, float*, heed::Linear) const { ADD_FAILURE() << "nobody asked for values"; }
  };
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  [[nodiscard]] heed::Status validate() const { return {}; }
  [[nodiscard]] heed::AttentionLayout layout() const {
    return {.num_streams = 2,
            .streams = {heed::StreamShape{1, latent}, {kv_heads, value_width + 4}},
            .key = {.stream = 0, .offset = 3, .width = latent - 3},
            .value = {.stream = 1, .offset = 4, .width = value_width},
            .num_heads = heads,
            .num_kv_heads = kv_heads,
            .key_width = key_width,
            .value_width = value_width,
            .scale = 0.3f};
  }
  [[nodiscard]] heed::Identity query_map() const { return {}; }
  [[nodiscard]] heed::Identity output_map() const { return {}; }
  [[nodiscard]] Preparation preparation() const { return {&weights}; }
};

Matrices random_matrices(oracle::Random& random, Index count, Index in, Index out) {
  return {in, out, random.gaussians(count * in * out, 1 / std::sqrt(double(in)))};
}

template <class P, class C>
std::vector<float> attended(const P& policy, const heed::KvCache<P, C>& cache, const std::vector<float>& q,
                            Index numbers, Index threads) {
  std::vector<float> out(std::size_t(numbers), nan);
  heed::Workspace workspace;
  AnyExecutor executor = workers(threads);
  const heed::Status status =
      heed::attend<Backend>(policy, q, cache.keys(0), heed::Causal{}, out, workspace, executor);
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

constexpr heed::Gqa plain{
    .num_heads = heads, .num_kv_heads = kv_heads, .head_dim = key_width, .v_head_dim = value_width, .scale = 0.3f};

std::vector<float> explicitly(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v,
                              Index queries) {
  auto cache = heed::value_or_throw(heed::KvCache<heed::Gqa, heed::F32>::create(plain, {}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(Index(k.size()) / (kv_heads * key_width))));
  heed::check(step.write(0, k, v));
  heed::check(step.commit());
  return attended(plain, cache, q, queries * heads * value_width, 1);
}

template <class C>
void expect_explicit(Index queries, Index keys) {
  oracle::Random random(std::uint64_t(queries + keys));
  const Toy toy{
      random_matrices(random, heads, model_width, key_width), random_matrices(random, kv_heads, latent, key_width),
      random_matrices(random, kv_heads, latent, value_width), random_matrices(random, heads, value_width, out_width)};
  const std::vector<float> q = random.gaussians(queries * heads * model_width);
  std::vector<float> rows = random.gaussians(keys * latent);
  auto cache = heed::value_or_throw(heed::KvCache<Toy, C>::create(toy, {}));
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(keys)));
  heed::check(step.write(0, rows));
  heed::check(step.commit());

  for (float& x : rows) x = float(rounded(x, C::name));  // as stored
  std::vector<float> mapped(std::size_t(queries * heads * key_width)), k(std::size_t(keys * kv_heads * key_width)),
      v(std::size_t(keys * kv_heads * value_width)), want(std::size_t(queries * heads * out_width));
  for (Index h = 0; h < heads; ++h) {
    toy.queries.apply(h, queries, q.data() + h * model_width, heads * model_width, mapped.data() + h * key_width,
                      heads * key_width);
  }
  for (Index g = 0; g < kv_heads; ++g) {
    toy.keys.apply(g, keys, rows.data(), latent, k.data() + g * key_width, kv_heads * key_width);
    toy.values.apply(g, keys, rows.data(), latent, v.data() + g * value_width, kv_heads * value_width);
    for (Index j = 0; j < keys; ++j) k[std::size_t((j * kv_heads + g) * key_width)] += 0.001f * float(j);
  }
  const std::vector<float> raw = explicitly(mapped, k, v, queries);
  for (Index h = 0; h < heads; ++h) {
    toy.outputs.apply(h, queries, raw.data() + h * value_width, heads * value_width, want.data() + h * out_width,
                      heads * out_width);
  }
  for (const Index threads : {1, 3}) {
    EXPECT_EQ(attended(toy, cache, q, queries * heads * out_width, threads), want) << queries << " queries " << keys;
  }
}

TEST(ToyPolicy, IsTheExplicitComputation) {
  for (const auto& [queries, keys] :
       {std::pair<Index, Index>{1, 1}, {1, 300}, {5, 600}, {60, 300}, {3, 0}, {1, 2500}}) {
    expect_explicit<heed::F32>(queries, keys);
    expect_explicit<heed::Bf16>(queries, keys);
  }
}

TEST(ToyPolicy, PreparedKeysWithCachedValues) {
  for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 300}, {5, 600}, {60, 300}}) {
    oracle::Random random(7);
    const PreparedKeys policy{random_matrices(random, kv_heads, latent, key_width)};
    const std::vector<float> q = random.gaussians(queries * heads * key_width), rows = random.gaussians(keys * latent),
                             wide = random.gaussians(keys * kv_heads * (value_width + 4));
    auto cache = heed::value_or_throw(heed::KvCache<PreparedKeys, heed::F32>::create(policy, {}));
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(keys)));
    heed::check(step.write(0, rows, wide));
    heed::check(step.commit());
    std::vector<float> k(std::size_t(keys * kv_heads * key_width)), v;
    for (Index g = 0; g < kv_heads; ++g) {
      policy.weights.apply(g, keys, rows.data(), latent, k.data() + g * key_width, kv_heads * key_width);
    }
    for (auto row = wide.begin(); row != wide.end(); row += value_width + 4)
      v.insert(v.end(), row + 4, row + value_width + 4);
    const std::vector<float> want = explicitly(q, k, v, queries);
    for (const Index threads : {1, 3}) {
      EXPECT_EQ(attended(policy, cache, q, queries * heads * value_width, threads), want);
    }
  }
}

}  // namespace
}  // namespace heed_test::toy_policy_test
