// Attention of random rows in every codec against plain float64 loops, without any other library: what runs on another
// architecture or under other flags. Prints the worst error of each and "right", or the first output that is wrong.
#include <heed/heed.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr int num_heads = 4, num_kv_heads = 2, head_dim = 40, tokens = 300;

struct Random {
  std::uint64_t state = 88172645463325252u;
  float operator()() {  // numbers with 8 significant bits, which every codec stores as they are
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return float(int(state >> 56) - 128) / 64.0f;
  }
};

std::vector<float> numbers(Random& random, std::size_t n) {
  std::vector<float> out(n);
  for (float& x : out) x = random();
  return out;
}

// The largest error over the bound of docs/design.md.
double worst(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v, double scale,
             const std::vector<float>& out) {
  double worst = 0;
  for (int h = 0; h < num_heads; ++h) {
    const std::size_t kv = std::size_t(h / (num_heads / num_kv_heads));
    std::vector<double> p(tokens), product(tokens);
    double max = -1e300, sum = 0, largest = 0;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t d = 0; d < head_dim; ++d) {
        const double x = double(q[std::size_t(h) * head_dim + d]) * double(k[(t * num_kv_heads + kv) * head_dim + d]);
        p[t] += x * scale;
        product[t] += std::fabs(x) * scale;
      }
      max = std::fmax(max, p[t]);
      largest = std::fmax(largest, product[t]);
    }
    for (double& x : p) sum += x = std::exp(x - max);
    for (std::size_t d = 0; d < head_dim; ++d) {
      double wanted = 0, weight = 0;
      for (std::size_t t = 0; t < tokens; ++t) {
        const double x = double(v[(t * num_kv_heads + kv) * head_dim + d]) * p[t] / sum;
        wanted += x;
        weight += std::fabs(x);
      }
      const double bound = std::ldexp(std::fabs(wanted) + 4 * weight * (1 + largest), -23);
      const double error = std::fabs(double(out[std::size_t(h) * head_dim + d]) - wanted) / bound;
      if (!(error <= worst)) worst = error;  // a NaN stays
    }
  }
  return worst;
}

template <class Codec, class Backend>
bool right(const char* codec) {
  Random random;
  const heed::Gqa policy{.num_heads = num_heads, .num_kv_heads = num_kv_heads, .head_dim = head_dim, .scale = 0.125f};
  auto cache = heed::KvCache<heed::Gqa, Codec>::create(policy, {.layers = 1});
  if (!cache.ok()) return false;
  const std::vector<float> q = numbers(random, num_heads * head_dim);
  const std::vector<float> k = numbers(random, tokens * num_kv_heads * head_dim), v = numbers(random, k.size());
  std::vector<float> out(q.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const std::size_t row = num_kv_heads * head_dim;
  for (std::size_t t = 0; t < tokens; ++t) {
    auto step = cache->begin(heed::NumTokens(1));
    if (!step.ok()) return false;
    if (!step->write(0, 0, std::span(k).subspan(t * row, row)).ok()) return false;
    if (!step->write(0, 1, std::span(v).subspan(t * row, row)).ok()) return false;
    const auto keys = step->keys(0);
    if (!heed::attend<Backend>(policy, q, keys, out, workspace, executor).ok()) return false;
    if (!step->commit().ok()) return false;
  }
  const double error = worst(q, k, v, 0.125, out);
  std::printf("%s, %s: %.3f of the bound\n", Backend::name, codec, error);
  return error <= 1;
}

template <class Backend>
bool all() {
  bool ok = true;
  heed::Codecs::for_each([&]<class C>() { ok = ok && right<C, Backend>(C::name); });
  return ok;
}

}  // namespace

int main() {
  std::printf("%s, exact floats: %d\n", heed::isa_name(), int(heed::exact_floats()));
  bool ok = true;
  heed::Backends::for_each([&]<class Backend>() { ok = ok && all<Backend>(); });
  std::puts(ok ? "right" : "wrong");
  return ok ? 0 : 1;
}
