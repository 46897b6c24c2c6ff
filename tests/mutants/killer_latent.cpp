// Kills mutants of the latent family: MLA's maps, scale and rows, MFA-KR's value map, and the product they all use.
#include <cmath>

#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/layer/mfa.hpp>
#include <heed/layer/mla.hpp>
#include <heed/simd/scalar.hpp>

#include "mutants/expect.hpp"
#include "oracle/mfa.hpp"
#include "oracle/mla.hpp"
#include "oracle/random.hpp"

namespace {

using heed::Index;
using heed::Tensor;
using killer::expect;

bool close(const std::vector<float>& got, const std::vector<double>& want) {
  bool all = got.size() == want.size();
  for (std::size_t i = 0; i < want.size() && all; ++i)
    all = std::abs(got[i] - want[i]) <= 2e-5 * (1 + std::abs(want[i]));
  return all;
}

/// A layer of MLA with YaRN, against float64, in both forms.
void mla() {
  constexpr Index hidden = 24, heads = 3, rank = 12, nope = 10, rope = 4, v = 6, tokens = 9;
  oracle::Random random(3);
  const auto tensor = [&](std::vector<float>& to, Index rows, Index cols) {
    to = random.gaussians(rows * cols);
    for (float& x : to) x *= float(1.5 / std::sqrt(double(cols)));
    return Tensor{to, rows, cols};
  };
  std::vector<float> q_proj, kv_a, norm, kv_b, o;
  heed::MlaTensors tensors;
  tensors.q_proj = tensor(q_proj, heads * (nope + rope), hidden);
  tensors.kv_a_proj_with_mqa = tensor(kv_a, rank + rope, hidden);
  tensors.kv_a_layernorm = tensor(norm, 1, rank);
  tensors.kv_b_proj = tensor(kv_b, heads * (nope + v), rank);
  tensors.o_proj = tensor(o, hidden, heads * v);
  const heed::Yarn yarn{.factor = 40, .original_max_position = 4096, .mscale = 1, .mscale_all_dim = 1};
  const auto made = heed::MlaLayer::create({.hidden_size = hidden,
                                            .num_attention_heads = heads,
                                            .kv_lora_rank = rank,
                                            .qk_nope_head_dim = nope,
                                            .qk_rope_head_dim = rope,
                                            .v_head_dim = v,
                                            .rope_layout = heed::RopeLayout::interleaved,
                                            .rope_theta = 1e4,
                                            .yarn = yarn,
                                            .table_positions = 64},
                                           tensors);
  if (!made.ok()) return expect(false, "mla", "create");
  const double mscale = 0.1 * std::log(40.0) + 1;
  oracle::Mla want{.num_heads = heads,
                   .kv_lora_rank = rank,
                   .qk_nope_head_dim = nope,
                   .qk_rope_head_dim = rope,
                   .v_head_dim = v,
                   .scale = mscale * mscale / std::sqrt(double(nope + rope))};
  std::vector<double> frequencies(2);
  const heed::YarnRange range = yarn.range(rope, 1e4);
  for (Index i = 0; i < 2; ++i)
    frequencies[std::size_t(i)] = yarn.scaled(std::pow(1e4, -2.0 * double(i) / rope), i, range);
  want.rotation = {.frequencies = frequencies, .interleaved = true};
  want.kv_a_eps = 1e-6;
  want.q_proj = oracle::doubles(q_proj);
  want.kv_a_proj_with_mqa = oracle::doubles(kv_a);
  want.kv_a_layernorm = oracle::doubles(norm);
  want.kv_b_proj = oracle::doubles(kv_b);
  want.o_proj = oracle::doubles(o);

  const std::vector<float> x = random.gaussians(tokens * hidden);
  std::vector<Index> positions(tokens);
  for (Index t = 0; t < tokens; ++t) positions[std::size_t(t)] = t;
  std::vector<float> q(tokens * heads * (nope + rope)), rows(tokens * (rank + rope)), y(tokens * hidden);
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  if (!(*made).project<heed::Scalar>(x, positions, q, rows, workspace, executor).ok())
    return expect(false, "mla", "project");
  const auto x64 = oracle::doubles(x), q64 = want.queries(x64, positions), rows64 = want.rows(x64, positions);
  expect(close(q, q64), "mla", "queries");
  expect(close(rows, rows64), "mla", "rows");
  auto cache = heed::KvCache<heed::Mla, heed::F32>::create((*made).policy(), {});
  auto step = (*cache).begin(heed::NumTokens(tokens));
  expect((*step).write(0, std::span<const float>(rows)).ok() && (*step).commit().ok(), "mla", "write");
  const oracle::Answer answer = want.naive(q64, rows64);
  for (const auto form : {heed::MlaForm::absorbed, heed::MlaForm::expanded}) {
    std::vector<float> out(tokens * heads * v);
    const bool ok = heed::attend_mla<heed::Scalar>((*made).policy(), form, q, (*cache).keys(0), heed::Causal{}, out,
                                                   workspace, executor)
                        .ok();
    expect(ok && close(out, answer.o), "mla", form == heed::MlaForm::absorbed ? "absorbed" : "expanded");
    expect((*made).output<heed::Scalar>(out, y, executor).ok() && close(y, want.output(answer.o)), "mla", "output");
  }
  const heed::Mla v3{.num_heads = 1,
                     .kv_lora_rank = 512,
                     .qk_rope_head_dim = 64,
                     .qk_nope_head_dim = 128,
                     .v_head_dim = 128,
                     .scale = 1};
  expect(heed::mla_expansion_is_cheaper(v3, 170, 4170) && !heed::mla_expansion_is_cheaper(v3, 165, 4165), "mla",
         "crossover");
}

/// MFA-KR: alpha gates what N gives, keys turn and values do not, M folds.
void mfa_kr() {
  constexpr Index dim = 6, heads = 2, keys = 5;
  oracle::Random random(5);
  const std::vector<float> n = random.gaussians(dim * dim), alpha = random.gaussians(dim),
                           k = random.gaussians(keys * dim);
  std::vector<float> map(dim * dim), turned = k, q = random.gaussians(heads * dim), out(heads * dim);
  expect(heed::make_value_map({n, dim, dim}, {alpha, 1, dim}, dim, map).ok(), "mfa_kr", "map");
  const auto rope = heed::Rope::create(
      {.head_dim = dim, .layout = heed::RopeLayout::half_split, .theta = 100, .table_positions = 64});
  for (Index t = 0; t < keys; ++t) (*rope).apply(t, turned.data() + t * dim);
  const heed::MfaKr policy{.num_heads = heads, .head_dim = dim, .scale = 0.5f, .rope = &*rope, .value_map = map};
  auto cache = heed::KvCache<heed::MfaKr, heed::F32>::create(policy, {});
  auto step = (*cache).begin(heed::NumTokens(keys));
  expect((*step).write(0, std::span<const float>(k)).ok() && (*step).commit().ok(), "mfa_kr", "write");
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  const bool ok = heed::attend<heed::Scalar>(policy, q, (*cache).keys(0), out, workspace, executor).ok();
  const oracle::KeyReuse reuse{oracle::doubles(n), oracle::doubles(alpha)};
  const oracle::Mfa want{.num_heads = heads, .head_dim = dim, .scale = 0.5};
  const auto k64 = oracle::doubles(k);
  expect(ok && close(out, want.attend(oracle::doubles(q), oracle::doubles(turned), reuse.values(k64)).o), "mfa_kr",
         "values");
  const std::vector<float> o_proj = random.gaussians(3 * dim);
  std::vector<float> folded(o_proj.size());
  expect(heed::fold_value_map(map, dim, o_proj, folded).ok(), "mfa_kr", "fold");
  const auto plain = oracle::linear(reuse.values(k64), oracle::doubles(o_proj), dim);
  const auto once = oracle::linear(k64, oracle::doubles(folded), dim);
  bool same = true;
  for (std::size_t i = 0; i < once.size(); ++i) same &= std::abs(once[i] - plain[i]) < 1e-4;
  expect(same, "mfa_kr", "folded");
}

/// 2^24 in one block of 32, and 32 ones in the next: one accumulator would lose every one of them.
void product() {
  std::vector<float> x(64, 0), w(64, 1);
  x[0] = 0x1p24f;
  for (std::size_t i = 32; i < 64; ++i) x[i] = 1;
  float y = 0;
  heed::Scalar::linear({w.data(), 64, 1, 1}, 1, x.data(), 64, &y, 1);
  expect(y == 0x1p24f + 32, "product", "blocks of 32");
}

}  // namespace

int main() {
  mla();
  mfa_kr();
  product();
  return killer::failures == 0 ? 0 : 1;
}
