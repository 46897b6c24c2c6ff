// Kills mutants of the kernel: attend() against the oracle, with one and with three workers, and query by query.
// Scalar loops, or xsimd's with -DKILLER_XSIMD.
#include <cstring>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/window.hpp>

#include "mutants/expect.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"

#if defined(KILLER_XSIMD)
#include <heed/simd/xsimd.hpp>
using Backend = heed::Xsimd<>;
#else
using Backend = heed::Scalar;
#endif

namespace {

using heed::Index;

/// Pretends to have several workers: their scratch and the cutting of tasks count, not the time.
struct Workers {
  Index count = 1;
  Index workers() const { return count; }
  void parallel_for(Index tasks, heed::FunctionRef<void(Index, Index)> body) {
    for (Index task = 0; task < tasks; ++task) body(task, task % count);
  }
};

/// Whole chunks are hidden, and so is every fifth key; every fourth query sees nothing at all.
struct Holes {
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool visible(Index i, Index j) const { return j <= i && i % 4 != 1 && j % 5 != 3 && j / 256 % 7 != 2 && j / 256 % 4 != 3; }
};

struct Case {
  const char* name;
  Index heads, kv_heads, head_dim, v_head_dim, queries, keys;
  heed::MaskRef mask;
  oracle::Visible visible;
  double deviation = 1;  ///< of the queries
  bool alibi = false, sinks = false, poisoned = false;
  float soft_cap = 0;
  Index first_position = 0;
  bool padded = false;  ///< rows may be read in whole cache lines, so that few query rows read them in place
};

/// Rows of numbers that bf16 holds exactly, and the same rows as the oracle takes them.
struct Rows {
  Rows(oracle::Random& random, Index tokens, Index heads, Index width, bool padded)
      : stride(padded ? heed::round_up(2 * width, 64) : 2 * width), bytes(std::size_t(tokens * heads * stride)) {
    for (Index i = 0; i < tokens * heads; ++i) {
      for (Index d = 0; d < width; ++d) numbers.push_back(oracle::round_to_bf16(random.gaussian()));
    }
    stream = {bytes.data(), heads * stride, stride, stride};
    encode(width);
  }
  void encode(Index width) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const float x = float(numbers[i]);
      heed::Bf16::encode(&x, 1, bytes.data() + Index(i) / width * stride + Index(i) % width * 2);
    }
  }
  Index stride;
  std::vector<std::byte> bytes;
  std::vector<double> numbers;
  heed::StridedStream stream;
};

struct Output {
  std::vector<float> o, lse;
  bool operator==(const Output& other) const {
    return std::memcmp(o.data(), other.o.data(), o.size() * 4) == 0 &&
           std::memcmp(lse.data(), other.lse.data(), lse.size() * 4) == 0;
  }
};

void check(const Case& c) {
  oracle::Random random(std::uint64_t(c.keys));
  const std::vector<float> q = random.gaussians(c.queries * c.heads * c.head_dim, c.deviation);
  Rows k(random, c.keys, c.kv_heads, c.head_dim, c.padded), v(random, c.keys, c.kv_heads, c.v_head_dim, c.padded);
  if (c.poisoned) {  // what no query sees
    for (Index j = 0; j < c.keys; ++j) {
      if (c.visible(c.keys + 2, j)) continue;
      std::fill_n(k.numbers.begin() + j * c.kv_heads * c.head_dim, c.kv_heads * c.head_dim, NAN);
      std::fill_n(v.numbers.begin() + j * c.kv_heads * c.v_head_dim, c.kv_heads * c.v_head_dim, NAN);
    }
    k.encode(c.head_dim);
    v.encode(c.v_head_dim);
  }
  const float scale = 0.3f;
  const heed::Gqa policy{c.heads, c.kv_heads, c.head_dim, c.v_head_dim, scale};
  std::vector<float> slopes, sinks;
  for (Index h = 0; h < c.heads; ++h) {
    if (c.alibi) slopes.push_back(0.05f * float(h + 1));
    if (c.sinks) sinks.push_back(float(h) + 0.5f);
  }
  const heed::AttendOptions options{.soft_cap = c.soft_cap, .alibi_slopes = slopes, .sink_logits = sinks};

  // Queries [first, last) of the case, on the keys they would find when they are the newest.
  heed::Workspace workspace;
  const auto attend = [&](Index first, Index last, Index workers) {
    const Index rows = (last - first) * c.heads;
    Output out{std::vector<float>(std::size_t(rows * c.v_head_dim), 9.0f), std::vector<float>(std::size_t(rows), 9.0f)};
    const heed::StridedSource<heed::Bf16> source(c.keys - c.queries + last, k.stream, v.stream, c.first_position);
    Workers executor{workers};
    const std::span<const float> some(q.data() + first * c.heads * c.head_dim, std::size_t(rows * c.head_dim));
    const bool ok =
        heed::attend<Backend>(policy, some, source, c.mask, out.o, workspace, executor, options, out.lse).ok();
    killer::expect(ok, c.name, "status");
    return out;
  };
  oracle::Problem problem{.heads = c.heads, .kv_heads = c.kv_heads, .key_dim = c.head_dim, .value_dim = c.v_head_dim,
                          .scale = double(scale), .q = oracle::doubles(q), .k = k.numbers, .v = v.numbers,
                          .visible = c.visible, .soft_cap = double(c.soft_cap), .slopes = oracle::doubles(slopes),
                          .sinks = oracle::doubles(sinks)};
  for (Index j = 0; j < c.keys; ++j) problem.key_positions.push_back(c.first_position + j);
  const oracle::Answer answer = oracle::attention(problem);
  const Output all = attend(0, c.queries, 1);
  killer::expect(oracle::worst_output(all.o, answer) <= 1, c.name, "output");
  killer::expect(oracle::worst_lse(all.lse, answer) <= 1, c.name, "lse");
  killer::expect(attend(0, c.queries, 3) == all, c.name, "bits of three workers");
  Output single;
  for (Index i = 0; i < c.queries; ++i) {
    const Output one = attend(i, i + 1, 1);
    single.o.insert(single.o.end(), one.o.begin(), one.o.end());
    single.lse.insert(single.lse.end(), one.lse.begin(), one.lse.end());
  }
  killer::expect(single == all, c.name, "bits of single queries");
}

}  // namespace

int main() {
  const heed::Causal causal;
  const heed::SlidingWindow window{100};
  const Holes holes;
  const auto seen = [&](Index i, Index j) { return holes.visible(i, j); };
  check({"grouped", 6, 2, 21, 13, 3, 300, causal, oracle::causal()});
  check({.name = "chunk border", .heads = 1, .kv_heads = 1, .head_dim = 16, .v_head_dim = 80, .queries = 13,
         .keys = 262, .mask = causal, .visible = oracle::causal()});
  check({.name = "in place", .heads = 14, .kv_heads = 2, .head_dim = 37, .v_head_dim = 16, .queries = 1, .keys = 301,
         .mask = causal, .visible = oracle::causal(), .padded = true});
  check({.name = "logits", .heads = 2, .kv_heads = 1, .head_dim = 20, .v_head_dim = 16, .queries = 7, .keys = 290,
         .mask = causal, .visible = oracle::causal(), .alibi = true, .sinks = true, .soft_cap = 2,
         .first_position = 1000});
  check({.name = "large logits", .heads = 2, .kv_heads = 1, .head_dim = 16, .v_head_dim = 16, .queries = 2,
         .keys = 100, .mask = causal, .visible = oracle::causal(), .deviation = 100});
  check({.name = "window", .heads = 1, .kv_heads = 1, .head_dim = 16, .v_head_dim = 16, .queries = 20, .keys = 700,
         .mask = window, .visible = oracle::window(100), .padded = true});
  check({.name = "hidden", .heads = 3, .kv_heads = 1, .head_dim = 16, .v_head_dim = 16, .queries = 5, .keys = 300,
         .mask = holes, .visible = seen, .sinks = true, .poisoned = true});
  check({.name = "tree", .heads = 2, .kv_heads = 2, .head_dim = 8, .v_head_dim = 16, .queries = 1, .keys = 41 * 256,
         .mask = causal, .visible = oracle::causal(), .sinks = true});
  check({.name = "tree with holes", .heads = 2, .kv_heads = 2, .head_dim = 8, .v_head_dim = 16, .queries = 2,
         .keys = 41 * 256 + 9, .mask = holes, .visible = seen});
  return killer::failures == 0 ? 0 : 1;
}
