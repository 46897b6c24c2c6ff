// attend_batch() on foreign rows of any stride, order and alignment, with a page without access right behind the last
// one: any mask, positions, options and batch gives the float64 answer or a named refusal.
#include <memory>
#include <optional>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/heed.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>
#include <heed/retention/window.hpp>

#include "fuzz/bytes.hpp"
#include "guarded_bytes.hpp"
#include "laws/masks.hpp"
#include "lists/plain_codecs.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"

namespace {

using heed::Index;
using heed_fuzz::Bytes;
using heed_test::AnyMask;

struct CallShape {
  Index kv_heads = 1, group = 1, key_dim = 1, value_dim = 1;
  bool shared = false;  ///< values are the first numbers of the keys
};

/// Rows [tokens][heads][width] somewhere in guarded memory.
struct Rows {
  std::unique_ptr<heed_test::GuardedBytes> bytes;
  heed::StridedStream stream;
};

template <class Codec>
Rows lay_out(const std::vector<float>& numbers, Index tokens, Index heads, Index width, Bytes& in) {
  if (tokens == 0) return {};
  const Index row = Codec::row_bytes(width), gap = in.pick(0, 17) * Codec::row_bytes(1);
  const bool by_token = in.one_in(2), backwards = in.one_in(4);
  const Index inner = row + gap, outer = inner * (by_token ? heads : tokens) + in.pick(0, 40) * Codec::row_bytes(1);
  const Index token_stride = by_token ? outer : inner, head_stride = by_token ? inner : outer;
  const Index size = (tokens - 1) * token_stride + (heads - 1) * head_stride + row;
  Rows made{std::make_unique<heed_test::GuardedBytes>(size), {}};
  std::byte* const first = made.bytes->data() + (backwards ? (tokens - 1) * token_stride : 0);
  made.stream = {.data = first,
                 .token_stride_bytes = backwards ? -token_stride : token_stride,
                 .head_stride_bytes = head_stride,
                 .row_bytes = row};
  std::memset(made.bytes->data(), 0xff, std::size_t(size));  // NaN wherever no row lies
  for (Index t = 0; t < tokens; ++t) {
    for (Index h = 0; h < heads; ++h) {
      Codec::encode(numbers.data() + (t * heads + h) * width, width,
                    made.bytes->data() + (made.stream.data - made.bytes->data()) + t * made.stream.token_stride_bytes +
                        h * head_stride);
    }
  }
  return made;
}

AnyMask mask(Bytes& in) {
  switch (in.pick(0, 6)) {
    case 0: return heed_test::unmasked();
    case 1: return heed_test::window(in.pick(1, 20));
    case 2: return heed_test::window(in.pick(1, 600));
    case 3: return heed_test::holes(in.number());
    case 4: return heed_test::ignorant_holes(in.number());
    case 5: return heed_test::ignorant_window(in.pick(1, 300));
    default: return heed_test::causal();
  }
}

template <class Codec>
double stored(double x) {
  if constexpr (std::is_same_v<Codec, heed::Bf16>) return oracle::round_to_bf16(x);
  if constexpr (std::is_same_v<Codec, heed::F16>) return oracle::round_to_f16(x);
  if constexpr (std::is_same_v<Codec, heed::F32>) return x;
  return Codec::to_float(Codec::from_float(float(x)));
}

/// One sequence of the batch and its answer.
template <class Codec>
struct Case {
  std::vector<float> q, out, lse;
  std::vector<Index> positions;
  Rows keys, values;
  std::optional<heed::StridedSource<Codec>> source;
  AnyMask seen = heed_test::causal();
  oracle::Problem problem;
};

template <class Codec, class Policy>
void run(const Policy& policy, const CallShape& shape, Bytes& in) {
  const Index heads = shape.kv_heads * shape.group;
  oracle::Random random(in.number<std::uint16_t>());
  std::vector<float> slopes, sinks;
  if (in.one_in(4)) slopes = random.gaussians(heads, 0.1);
  for (float& slope : slopes) slope = std::abs(slope);
  if (in.one_in(4)) sinks = random.gaussians(heads);
  const float cap = in.one_in(4) ? 5.0f : 0.0f;

  std::vector<Case<Codec>> cases(std::size_t(in.pick(1, 3)));
  std::vector<heed::Sequence<heed::StridedSource<Codec>>> batch;
  for (Case<Codec>& one : cases) {
    const Index keys = in.one_in(3) ? in.pick(200, 700) : in.pick(0, 40), queries = in.pick(0, 9);
    const Index first_position = in.one_in(3) ? in.pick(0, 100000) : 0;
    one.q = random.gaussians(queries * heads * shape.key_dim);
    const std::vector<float> k = random.gaussians(keys * shape.kv_heads * shape.key_dim);
    std::vector<float> v = random.gaussians(keys * shape.kv_heads * shape.value_dim);
    one.keys = lay_out<Codec>(k, keys, shape.kv_heads, shape.key_dim, in);
    if (shape.shared) {
      for (Index row = 0; row < keys * shape.kv_heads; ++row) {
        for (Index i = 0; i < shape.value_dim; ++i) {
          v[std::size_t(row * shape.value_dim + i)] = k[std::size_t(row * shape.key_dim + i)];
        }
      }
      one.source.emplace(keys, one.keys.stream, first_position);
    } else {
      one.values = lay_out<Codec>(v, keys, shape.kv_heads, shape.value_dim, in);
      one.source.emplace(keys, one.keys.stream, one.values.stream, first_position);
    }
    if (in.one_in(4)) {
      for (Index i = 0; i < queries; ++i) one.positions.push_back(first_position + in.pick(0, keys + 3));
    }
    one.seen = mask(in);
    // Without a causal mask ALiBi has another meaning.
    if (!slopes.empty()) one.seen = in.one_in(2) ? heed_test::causal() : heed_test::window(in.pick(1, 300));
    const float nan = std::numeric_limits<float>::quiet_NaN();
    one.out.assign(std::size_t(queries * heads * shape.value_dim), nan);
    one.lse.assign(std::size_t(queries * heads), nan);
    one.problem = {.heads = heads,
                   .kv_heads = shape.kv_heads,
                   .key_dim = shape.key_dim,
                   .value_dim = shape.value_dim,
                   .scale = policy.scale,
                   .q = oracle::doubles(one.q),
                   .k = oracle::doubles(k),
                   .v = oracle::doubles(v),
                   .visible = one.seen.visible(),
                   .soft_cap = cap,
                   .slopes = oracle::doubles(slopes),
                   .sinks = oracle::doubles(sinks),
                   .query_positions = one.positions};
    for (double& x : one.problem.k) x = stored<Codec>(x);
    for (double& x : one.problem.v) x = stored<Codec>(x);
    for (Index i = 0; i < keys; ++i) one.problem.key_positions.push_back(first_position + i);
    batch.push_back({.keys = &*one.source,
                     .mask = one.seen.ref(),
                     .q = one.q,
                     .out = one.out,
                     .lse = one.lse,
                     .query_positions = one.positions});
  }

  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const heed::Status status = heed::attend_batch<heed::DefaultBackend>(
      policy, std::span<const heed::Sequence<heed::StridedSource<Codec>>>(batch), workspace, serial,
      {.soft_cap = cap, .alibi_slopes = slopes, .sink_logits = sinks});
  FUZZ_CHECK(status.ok(), status.message());
  for (const Case<Codec>& one : cases) {
    const oracle::Answer answer = oracle::attention(one.problem);
    FUZZ_CHECK(oracle::worst_output(one.out, answer) <= 1);
    FUZZ_CHECK(oracle::worst_lse(one.lse, answer) <= 1);
  }
}

template <class Codec>
void run(Bytes& in) {
  CallShape shape{.kv_heads = in.pick(1, 3), .group = in.pick(1, 5), .key_dim = in.pick(1, 70)};
  shape.value_dim = in.one_in(2) ? shape.key_dim : in.pick(1, 70);
  shape.shared = in.one_in(3);
  const auto scale = float(1 / std::sqrt(double(shape.key_dim)));
  const Index heads = shape.kv_heads * shape.group;
  if (!shape.shared) {
    run<Codec>(heed::Gqa{.num_heads = heads,
                         .num_kv_heads = shape.kv_heads,
                         .head_dim = shape.key_dim,
                         .v_head_dim = shape.value_dim,
                         .scale = scale},
               shape, in);
    return;
  }
  shape.value_dim = std::min(shape.value_dim, shape.key_dim);
  run<Codec>(heed::SharedRow{.num_heads = heads,
                             .num_kv_heads = shape.kv_heads,
                             .head_dim = shape.key_dim,
                             .v_head_dim = shape.value_dim,
                             .scale = scale},
             shape, in);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  heed_test::PlainCodecs::with_number(std::size_t(in.pick(0, Index(heed_test::PlainCodecs::size) - 1)),
                                      [&]<class Codec>() { run<Codec>(in); });
  return 0;
}
