// Kills mutants of codecs: factors in scores, in p, in pages, in snapshots, and rows encoded by vectors. Scalar loops, or
// xsimd's with -DKILLER_XSIMD.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/shared_row.hpp>

#include "codec/signed_bytes.hpp"
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
using killer::expect;

/// Signed bytes. A factor for every 32 numbers lies in the plane as a float: the largest magnitude / 127.
struct Blocks : heed_test::SignedBytes<> {
  static constexpr const char* name = "blocks";
  static constexpr heed::Factors factors = heed::Factors::per_block;
  static constexpr Index view_step = 32;
  static constexpr Index row_alignment = 16;
  static Index row_bytes(Index width) { return width; }
  static Index factor_bytes(Index width) { return (width + 31) / 32 * Index(sizeof(float)); }
  static void encode(const float* in, Index width, std::byte* row, std::byte* entry) {
    for (Index begin = 0; begin < width; begin += 32) {
      float most = 0;
      const Index end = std::min<Index>(begin + 32, width);
      for (Index i = begin; i < end; ++i) most = std::max(most, std::abs(in[i]));
      const float factor = most / 127;
      std::memcpy(entry + begin / 8, &factor, sizeof factor);
      for (Index i = begin; i < end; ++i) row[i] = std::byte(most > 0 ? int(in[i] / factor) & 255 : 0);
    }
  }
  static float factor(const std::byte*, const std::byte* entry, Index i) {
    float factor;
    std::memcpy(&factor, entry + i * Index(sizeof factor), sizeof factor);
    return factor;
  }
};
/// The same with one factor a row: the first block's.
struct Whole : Blocks {
  static constexpr const char* name = "whole";
  static constexpr heed::Factors factors = heed::Factors::per_row;
};

constexpr Index heads = 4, kv_heads = 2, width = 96, v_width = 64, tokens = 45;
constexpr heed::Gqa policy{
    .num_heads = heads, .num_kv_heads = kv_heads, .head_dim = width, .v_head_dim = v_width, .scale = 0.2f};

/// Rows of `width` numbers. Every block of 32 has its own size.
std::vector<float> rows_of(oracle::Random& random, Index count, Index row) {
  std::vector<float> made = random.gaussians(count * row);
  for (std::size_t i = 0; i < made.size(); ++i) {
    made[i] *= std::exp2(float((Index(i) / row * 3 + Index(i) % row / 32 * 5) % 4) - 2);
  }
  return made;
}
/// What codec C stores for them.
template <class C>
std::vector<double> stored(const std::vector<float>& rows, Index row) {
  std::vector<double> made;
  for (std::size_t i = 0; i < rows.size(); i += std::size_t(row)) {
    std::vector<std::byte> bytes(std::size_t(C::row_bytes(row))), entry(std::size_t(C::factor_bytes(row)));
    C::encode(rows.data() + i, row, bytes.data(), entry.data());
    for (Index d = 0; d < row; ++d) {
      float code;
      C::codes(bytes.data(), d, 1, &code);
      const Index block = C::factors == heed::Factors::per_row ? 0 : d / 32;
      made.push_back(double(code) * double(C::factor(nullptr, entry.data(), block)));
    }
  }
  return made;
}

template <class C>
struct Text {
  using Cache = heed::KvCache<heed::Gqa, C>;
  std::vector<float> q, k, v;
  explicit Text(std::uint64_t seed) {
    oracle::Random random(seed);
    q = random.gaussians(tokens * heads * width);
    k = rows_of(random, tokens * kv_heads, width);
    v = rows_of(random, tokens * kv_heads, v_width);
  }
  static Cache cache() { return heed::value_or_throw(Cache::create(policy, {.page_tokens = 8})); }
  void append(Cache& to, Index first, Index count) const {
    auto step = heed::value_or_throw(to.begin(heed::NumTokens(count)));
    const auto part = [&](const std::vector<float>& all, Index row) {
      return std::span(all).subspan(std::size_t(first * kv_heads * row), std::size_t(count * kv_heads * row));
    };
    heed::check(step.write(0, part(k, width), part(v, v_width)));
    heed::check(step.commit());
  }
  /// Attention of the last `queries` tokens of the cache.
  std::vector<float> ask(const Cache& cache, Index queries) const {
    heed::Workspace workspace;
    heed::SerialExecutor serial;
    std::vector<float> out(std::size_t(queries * heads * v_width));
    const std::span<const float> last(q.data() + (tokens - queries) * heads * width,
                                      std::size_t(queries * heads * width));
    heed::check(heed::attend<Backend>(policy, last, cache.keys(0), heed::Causal{}, out, workspace, serial));
    return out;
  }
  bool right(const std::vector<float>& out, Index queries) const {
    oracle::Problem problem{
        .heads = heads, .kv_heads = kv_heads, .key_dim = width, .value_dim = v_width, .scale = double(policy.scale)};
    for (std::size_t i = std::size_t((tokens - queries) * heads * width); i < q.size(); ++i) {
      problem.q.push_back(double(q[i]));
    }
    problem.k = stored<C>(k, width);
    problem.v = stored<C>(v, v_width);
    return oracle::worst_output(out, oracle::attention(problem)) <= 1;
  }
};

template <class C>
void factors(const char* check) {
  const Text<C> text(1), other(2);
  auto cache = text.cache();
  text.append(cache, 0, 20);
  auto fork = heed::value_or_throw(cache.fork());
  // A shared page that is partly filled is copied first. If it were not, the fork's other text would show in the cache.
  text.append(cache, 20, 25);
  other.append(fork, 20, 25);
  const std::vector<float> few = text.ask(cache, 2), many = text.ask(cache, 20);
  expect(text.right(few, 2), check, "rows in place");
  expect(text.right(many, 20), check, "packed panels");
  expect(std::equal(few.begin(), few.end(), many.end() - Index(few.size())), check, "few and many rows");

  auto whole = text.cache();
  text.append(whole, 0, tokens);
  expect(text.ask(whole, 2) == few, check, "copied with a page");
  std::vector<std::byte> bytes(cache.snapshot_bytes());
  heed::check(cache.snapshot(bytes));
  const auto restored = Text<C>::Cache::restore(policy, {.page_tokens = 16}, heed::Causal{}, bytes);
  expect(restored.ok() && text.ask(*restored, 2) == few, check, "in a snapshot");

  // Rows of which a preparation makes keys.
  const heed::RowRun run = whole.keys(0).row_run(0, 1, 8, 8);
  std::vector<const std::byte*> row, entry;
  for (Index i = 0; i < 8; ++i) {
    row.push_back(run.data + i * run.stride_bytes);
    entry.push_back(run.factors + i * run.factor_stride_bytes);
  }
  std::vector<float> decoded(8 * width);
  Backend::template decode_rows<C>({row.data(), row.data(), 8, 0, entry.data()}, width, decoded.data());
  const std::vector<double> want = stored<C>(text.k, width);
  bool same = true;
  for (Index i = 0; i < 8 * width; ++i) {
    same &= decoded[std::size_t(i)] == float(want[std::size_t(((8 + i / width) * kv_heads + 1) * width + i % width)]);
  }
  expect(same, check, "decoded rows");
}

/// Keys and values from number `offset` of rows of 96 numbers on.
struct Slice : heed::SharedRow {
  Index offset = 0;
  [[nodiscard]] heed::AttentionLayout layout() const noexcept {
    heed::AttentionLayout layout = heed::SharedRow::layout();
    layout.streams[0].width = 96;
    layout.key.offset = layout.value.offset = offset;
    return layout;
  }
};

/// A view has the bits of rows that begin where it begins.
void views() {
  oracle::Random random(3);
  constexpr Index keys = 40, queries = 20, row = 128;
  const std::vector<float> numbers = rows_of(random, keys, 96), q = random.gaussians(queries * 64);
  std::vector<std::byte> bytes(keys * row), plane(keys * 16);
  for (Index i = 0; i < keys; ++i)
    Blocks::encode(numbers.data() + i * 96, 96, bytes.data() + i * row, plane.data() + i * 16);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const auto attend = [&](Index first, Index offset, Index rows) {
    const heed::StridedStream stream{.data = bytes.data() + first,
                                     .token_stride_bytes = row,
                                     .row_bytes = row,
                                     .factors = plane.data() + first / 8,
                                     .factor_token_stride_bytes = 16};
    const Slice slice{{.num_heads = 1, .head_dim = 64, .v_head_dim = 64, .scale = 0.2f}, offset};
    std::vector<float> out(std::size_t(rows * 64));
    heed::check(heed::attend<Backend>(slice, std::span(q).first(std::size_t(rows * 64)),
                                      heed::StridedSource<Blocks>(keys, stream), heed::Causal{}, out, workspace,
                                      serial));
    return out;
  };
  expect(attend(32, 0, 1) == attend(0, 32, 1), "view", "rows in place");
  expect(attend(32, 0, queries) == attend(0, 32, queries), "view", "packed panels");
}

/// Views and sources without factors that a codec has.
void refusals() {
  std::vector<std::byte> bytes(4 * 128);
  std::vector<float> q(64), out(16);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const auto attend = [&](Index offset, bool plane) {
    heed::StridedStream stream{.data = bytes.data(), .token_stride_bytes = 128, .row_bytes = 128};
    if (plane) stream.factors = bytes.data(), stream.factor_token_stride_bytes = 16;
    const Slice slice{{.num_heads = 1, .head_dim = 64, .v_head_dim = 16, .scale = 1}, offset};
    return heed::attend<Backend>(slice, q, heed::StridedSource<Blocks>(4, stream), heed::Causal{}, out, workspace,
                                 serial);
  };
  expect(attend(0, true).ok() && attend(32, true).ok(), "refused", "right");
  expect(!attend(0, false).ok(), "refused", "no plane");
  expect(!attend(16, true).ok(), "refused", "a view inside a block");
}

/// Vectors of 4 and of the most lanes give the bits of from_float().
template <class C>
void encoding(const char* check) {
  std::vector<float> in;
  for (std::uint32_t exponent = 0; exponent < 512; ++exponent) {
    for (const std::uint32_t fraction : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x2fffu, 0x3000u, 0x7fffu, 0x8000u, 0x8001u,
                                         0x18000u, 0x200000u, 0x400000u, 0x600000u, 0x7fefffu, 0x7ff000u, 0x7fffffu}) {
      in.push_back(std::bit_cast<float>(exponent << 23 | fraction));
    }
  }
  std::vector<std::uint16_t> got(in.size()), most(in.size());
  C::template encode_by<heed::detail::AnyLanes<4>>(in.data(), Index(in.size()),
                                                   reinterpret_cast<std::byte*>(got.data()));
  C::encode(in.data(), Index(in.size()), reinterpret_cast<std::byte*>(most.data()));
  bool same = true;
  for (std::size_t i = 0; i < in.size(); ++i) same &= got[i] == C::from_float(in[i]) && most[i] == got[i];
  expect(same, "encode", check);
}

}  // namespace

int main() {
  factors<Blocks>("factors of blocks");
  factors<Whole>("factors of rows");
  views();
  refusals();
  encoding<heed::Bf16>("bf16");
  encoding<heed::F16>("f16");
  return killer::failures == 0 ? 0 : 1;
}
