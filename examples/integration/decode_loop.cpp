// heed in an engine's decode loop: two layers of grouped-query attention with random weights. The engine owns the
// products and the sampling; heed owns the cache and the attention.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include <heed/heed.hpp>

using heed::Index;
using Numbers = std::vector<float>;

constexpr Index layers = 2, hidden = 64, heads = 8, kv_heads = 2, head_dim = 16, vocabulary = 100;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;

struct Layer {
  Numbers q, k, v, o;
};

struct Engine {
  Numbers embedding;
  std::vector<Layer> weights;
  heed::Rope rope;
  heed::Workspace workspace = {};
  heed::SerialExecutor executor = {};
};

Numbers random_matrix(std::mt19937& random, Index rows, Index columns) {
  std::normal_distribution<float> normal(0, 1 / std::sqrt(float(columns)));
  Numbers matrix(std::size_t(rows * columns));
  for (float& x : matrix) x = normal(random);
  return matrix;
}

// [tokens][rows] from x [tokens][columns]; stands in for the engine's own matrix product.
Numbers product(const Numbers& matrix, const Numbers& x, Index rows, Index columns) {
  Numbers out;
  for (Index token = 0; token < Index(x.size()) / columns; ++token) {
    for (Index row = 0; row < rows; ++row) {
      float sum = 0;
      const float *w = &matrix[std::size_t(row * columns)], *in = &x[std::size_t(token * columns)];
      for (Index i = 0; i < columns; ++i) sum += w[i] * in[i];
      out.push_back(sum);
    }
  }
  return out;
}

// Feeds tokens, one or many, and returns the most probable next one, or -1.
std::int32_t forward(Engine& engine, Cache& cache, const std::vector<std::int32_t>& tokens) {
  auto step = cache.begin(tokens);  // plans slots and positions for these tokens, in all layers
  if (!step.ok()) return std::fprintf(stderr, "%s\n", step.status().message().c_str()), -1;
  Numbers x;
  for (const std::int32_t token : tokens) {
    const auto row = engine.embedding.begin() + token * hidden;
    x.insert(x.end(), row, row + hidden);
  }
  for (Index layer = 0; layer < layers; ++layer) {
    const Layer& w = engine.weights[std::size_t(layer)];
    Numbers q = product(w.q, x, heads * head_dim, hidden), k = product(w.k, x, kv_heads * head_dim, hidden);
    const Numbers v = product(w.v, x, kv_heads * head_dim, hidden);
    Numbers out(q.size());
    const std::span<const Index> positions = step->positions(layer);  // ranks, if the cache numbers its keys so
    heed::Status status = engine.rope.apply_rows(positions, heads, q);
    if (status.ok()) status = engine.rope.apply_rows(positions, kv_heads, k);
    if (status.ok()) status = step->write(layer, k, v);
    if (status.ok()) {
      status = heed::attend<heed::DefaultBackend>(cache.policy(), q, step->keys(layer), out, engine.workspace,
                                                  engine.executor);
    }
    // Returning drops the step, and with it the half-written tokens.
    if (!status.ok()) return std::fprintf(stderr, "%s\n", status.message().c_str()), -1;
    const Numbers branch = product(w.o, out, hidden, heads * head_dim);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += branch[i];
  }
  if (!step->commit().ok()) return -1;
  const Numbers logits = product(engine.embedding, Numbers(x.end() - hidden, x.end()), vocabulary, hidden);
  return std::int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

int main() {
  auto rope = heed::Rope::create({.head_dim = head_dim, .layout = heed::RopeLayout::half_split, .theta = 1e4});
  auto cache = Cache::create(
      {.num_heads = heads, .num_kv_heads = kv_heads, .head_dim = head_dim, .scale = heed::default_scale(head_dim)},
      {.layers = layers, .capacity = 64});
  if (!rope.ok() || !cache.ok()) return 1;
  std::mt19937 random(1);
  Engine engine{.embedding = random_matrix(random, vocabulary, hidden), .weights = {}, .rope = *std::move(rope)};
  for (Index layer = 0; layer < layers; ++layer) {
    engine.weights.push_back({.q = random_matrix(random, heads * head_dim, hidden),
                              .k = random_matrix(random, kv_heads * head_dim, hidden),
                              .v = random_matrix(random, kv_heads * head_dim, hidden),
                              .o = random_matrix(random, hidden, heads * head_dim)});
  }

  std::vector<std::int32_t> text{3, 1, 4, 1, 5, 9, 2, 6};
  std::int32_t next = forward(engine, *cache, text);  // the prompt, in one step
  while (next >= 0 && text.size() < 40) {             // then one token at a time
    text.push_back(next);
    next = forward(engine, *cache, {next});
  }
  const heed::CacheBytes bytes = cache->bytes();
  std::printf("%lld tokens, %lld bytes of KV, %.0f per token\n", static_cast<long long>(bytes.seen),
              static_cast<long long>(bytes.live), bytes.per_token_seen());

  // Rejected drafts: forget the last 30 tokens and feed them again, all at once. The attention has the same bits.
  const std::vector<std::int32_t> again(text.begin() + 10, text.end());
  const bool same = cache->truncate(10).ok() && forward(engine, *cache, again) == next;
  std::printf("after a rollback: %s\n", same && next >= 0 ? "the same next token" : "a DIFFERENT next token");
  return same && next >= 0 ? 0 : 1;
}
