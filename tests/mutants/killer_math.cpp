// Kills mutants of the way a math goes through the kernel: types of its own for queries, panels and weights.
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/hooks.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/full.hpp>
#include <heed/simd/scalar.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::Index;
using heed::Scalar;

float eighths(float x) { return std::nearbyint(x * 8) / 8; }

/// F32 on queries that are rounded to eighths, with weights that are half as large. Queries and packed rows are pairs.
struct Pairs {
  static constexpr const char* name = "pairs";
  static constexpr Index query_numbers = 2, panel_numbers = 2;
  static constexpr Index weight_place(Index slot) { return slot; }
  struct Query {
    float number[2];
  };
  using Panel = Query;
  struct Weight {
    float half;
    explicit operator float() const { return half; }
  };

  template <class Backend>
  struct On {
    static constexpr Index few_rows = Backend::few_rows;
    static void queries(const float* q, Index rows, Index width, Query* out) {
      for (Index r = 0; r < rows; ++r) {
        for (Index d = 0; d < width; ++d) out[r * ((width + 1) / 2) + d / 2].number[d % 2] = eighths(q[r * width + d]);
      }
    }
    template <class C>
    static void pack_keys(const heed::KeyRows& rows, Index width, Panel* panel) {
      std::vector<float> plain(std::size_t(width * 64));
      Backend::template pack_keys<C>(rows, width, plain.data());
      pack(plain, panel);
    }
    template <heed::Factors F>
    static void score_panel(const Query* q, Index q_stride, Index rows, const Panel* panel, Index width, Index count,
                            float scale, float* s, const heed::Ahead& ahead, heed::PanelFactors<F> factors) {
      const std::vector<float> keys = unpacked(panel, width);
      for (Index r = 0; r < rows; ++r) {
        Backend::score_panel(row_of(q + r * q_stride, width).data(), width, 1, keys.data(), width, count, scale,
                             s + r * 256, ahead, factors);
      }
    }
    template <class C>
    static void score_rows(const Query* q, Index q_stride, Index rows, const heed::KeyRows& keys, Index width,
                           float scale, float* s) {
      for (Index r = 0; r < rows; ++r) {
        Backend::template score_rows<C>(row_of(q + r * q_stride, width).data(), width, 1, keys, width, scale,
                                        s + r * 256);
      }
    }
    static heed::ChunkSum softmax(float* s, Index count, Weight* p) {
      const heed::ChunkSum sum = Backend::softmax(s, count);
      for (Index k = 0; k < (count + 15) / 16 * 16; ++k) p[k].half = s[k] / 2;
      return {sum.max, sum.sum / 2};
    }
    template <class C>
    static void pack_values(const heed::KeyRows& rows, Index first_dim, Index dims, Panel* panel) {
      std::vector<float> plain(std::size_t(rows.count * 64));
      Backend::template pack_values<C>(rows, first_dim, dims, plain.data());
      pack(plain, panel);
    }
    template <heed::Factors F>
    static void accumulate_panel(const Weight* p, Index rows, const Panel* panel, heed::Interval keys, Index first_dim,
                                 Index dims, heed::RowTarget* targets, heed::Accumulate phase, const heed::Ahead& ahead,
                                 heed::PanelFactors<F> factors) {
      const std::vector<float> values = unpacked(panel, (keys.end + 1) / 2 * 2);
      for (Index r = 0; r < rows; ++r) {
        float row[256];
        for (Index k = keys.begin; k < keys.end; ++k) row[k] = p[r * 256 + k].half;
        Backend::accumulate_panel(row, 1, values.data(), keys, first_dim, dims, targets + r, phase, ahead, factors);
      }
    }
    template <class C>
    static void accumulate_rows(const Weight* p, Index rows, const heed::KeyRows& values, heed::Interval keys,
                                Index first_dim, Index dims, heed::RowTarget* targets, heed::Accumulate phase) {
      for (Index r = 0; r < rows; ++r) {
        float row[256];
        for (Index k = keys.begin; k < keys.end; ++k) row[k] = p[r * 256 + k].half;
        Backend::template accumulate_rows<C>(row, 1, values, keys, first_dim, dims, targets + r, phase);
      }
    }

   private:
    static void pack(const std::vector<float>& plain, Panel* panel) {
      for (std::size_t i = 0; i < plain.size(); ++i) panel[i / 128 * 64 + i % 64].number[i / 64 % 2] = plain[i];
    }
    static std::vector<float> unpacked(const Panel* panel, Index numbers) {
      std::vector<float> plain;
      for (Index i = 0; i < numbers * 64; ++i) plain.push_back(panel[i / 128 * 64 + i % 64].number[i / 64 % 2]);
      return plain;
    }
    static std::vector<float> row_of(const Query* q, Index width) {
      std::vector<float> row;
      for (Index d = 0; d < width; ++d) row.push_back(q[d / 2].number[d % 2]);
      return row;
    }
  };
};

/// Keeps the weights that it is given.
struct Sink {
  std::vector<float> weights;
  void chunk(const heed::ChunkProbabilities& chunk) {
    weights.insert(weights.end(), chunk.weights.begin(), chunk.weights.end());
  }
  void finish(const heed::FinishedRow&) const {}
};

constexpr Index keys = 100, heads = 6, width = 33;

std::vector<float> numbers(Index count, std::uint32_t seed) {
  std::vector<float> made;
  for (Index i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    made.push_back(float(seed >> 8) * 0x1p-23f - 1);
  }
  return made;
}

/// The bits of F32 on queries that were rounded before: with few rows, read in place, and with many, packed.
void check(Index queries) {
  const char* const name = queries == 1 ? "math: few rows" : "math: many rows";
  const heed::Gqa policy{.num_heads = heads, .num_kv_heads = 2, .head_dim = width, .scale = 0.3f};
  const auto k = numbers(keys * 2 * width, 1), v = numbers(keys * 2 * width, 2);
  const auto q = numbers(queries * heads * width, 3);
  std::vector<float> rounded;
  for (const float x : q) rounded.push_back(eighths(x));
  const auto stream = [](const std::vector<float>& rows) {
    return heed::StridedStream{.data = reinterpret_cast<const std::byte*>(rows.data()),
                               .token_stride_bytes = 2 * width * 4,
                               .head_stride_bytes = width * 4,
                               .row_bytes = width * 4};
  };
  const heed::StridedSource<heed::F32> source(keys, stream(k), stream(v));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  std::vector<float> want(q.size()), got(q.size());
  Sink plain, halves;
  const bool ran =
      heed::attend<Scalar>(policy, rounded, source, heed::Causal{}, want, workspace, serial, {}, plain).ok() &&
      heed::attend<Scalar, Pairs>(policy, q, source, heed::Causal{}, got, workspace, serial, {}, halves).ok();
  const auto same = [&] { return std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0; };
  killer::expect(ran && same(), name, "bits of F32");
  bool halved = plain.weights.size() == halves.weights.size();
  for (std::size_t i = 0; halved && i < plain.weights.size(); ++i) halved = halves.weights[i] == plain.weights[i] / 2;
  killer::expect(halved, name, "weights for hooks");
  std::fill(got.begin(), got.end(), 0.0f);
  killer::expect(heed::attend<Scalar, Pairs>(policy, q, source, heed::Causal{}, got, workspace, serial).ok() && same(),
                 name, "bits of F32 without hooks");
}

}  // namespace

int main() {
  check(1);
  check(40);
  return killer::failures == 0 ? 0 : 1;
}
