/// \file
/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434; V3, arXiv 2412.19437): one row per token for all heads,
///
///     row_s = [c_s | k_s],   c_s the normalised latent [kv_lora_rank], k_s the rotated rope key [qk_rope_head_dim]
///
/// of which every head makes its own keys [W_UK c_s | k_s] and values W_UV c_s. Two forms with one result:
///
///     absorbed   q' = [W_UK^T q_nope | q_rope] meets the rows themselves, the output is W_UV sum_s p_s c_s: cheap decode
///     expanded   keys and values are made, a tile at a time inside the kernel: cheap prefill
#pragma once

#include <span>

#include <heed/policy/grouped.hpp>
#include <heed/policy/matrix_map.hpp>
#include <heed/policy/rotated_keys.hpp>

namespace heed::inline HEED_ABI {

/// The up-projections of one layer, as both forms read them. Not owned; PackedMlaWeights in layer/mla.hpp makes them.
struct MlaWeights {
  std::span<const float> w_uk;   ///< [num_heads][qk_nope_head_dim][kv_lora_rank]: absorbs queries
  std::span<const float> w_ukv;  ///< [num_heads][kv_lora_rank][qk_nope_head_dim + v_head_dim]: expands rows and outputs

  [[nodiscard]] bool empty() const noexcept { return w_uk.empty() && w_ukv.empty(); }
};

/// MLA in absorbed form. Caches one row of kv_lora_rank + qk_rope_head_dim numbers per token, whatever num_heads.
///
/// With `weights`, q is [num_heads][qk_nope_head_dim + qk_rope_head_dim], its rope part rotated, and out
/// [num_heads][v_head_dim]. Without them, q must come absorbed, [num_heads][kv_lora_rank + qk_rope_head_dim], and out
/// stays latent, [num_heads][kv_lora_rank]. A cache needs no weights: make it with one Mla, attend with each layer's.
///
/// `rope`, of qk_rope_head_dim numbers, turns rope keys when they are read: rows are then stored with the rope key
/// un-rotated, as in-cache rank positions need it. Null: rows come rotated. It is not owned.
///
/// `scale` is (qk_nope_head_dim + qk_rope_head_dim)^-1/2, times Yarn::softmax_factor() if the model has one; never the root
/// of the row's width.
struct Mla {
  Index num_heads = 0;
  Index kv_lora_rank = 0;
  Index qk_rope_head_dim = 0;
  Index qk_nope_head_dim = 0;
  Index v_head_dim = 0;
  float scale = unset_scale;
  MlaWeights weights = {};
  const Rope* rope = nullptr;

  static constexpr int key_stream = 0;
  static constexpr int value_stream = 0;

  /// Width of a cached row.
  [[nodiscard]] Index row_width() const noexcept { return kv_lora_rank + qk_rope_head_dim; }
  /// Width of a head's query, and of its expanded key.
  [[nodiscard]] Index qk_head_dim() const noexcept { return qk_nope_head_dim + qk_rope_head_dim; }

  [[nodiscard]] Status validate() const {
    constexpr Index most = detail::most_width / 2;  // two of them make a row
    Status status = detail::check_range("kv_lora_rank", kv_lora_rank, 1, most);
    if (status.ok()) status = detail::check_range("qk_rope_head_dim", qk_rope_head_dim, 0, most);
    if (status.ok()) status = detail::check_range("qk_nope_head_dim", qk_nope_head_dim, 1, most);
    if (status.ok()) status = detail::check_range("v_head_dim", v_head_dim, 1, most);
    if (status.ok()) status = detail::validate_heads(num_heads, 1, row_width(), v_head_dim, scale);
    if (status.ok() && rope != nullptr && rope->options().head_dim != qk_rope_head_dim) {
      status = fail(StatusCode::invalid_argument, "rope->options().head_dim is ", rope->options().head_dim,
                    ", must be qk_rope_head_dim ", qk_rope_head_dim);
    }
    if (!status.ok() || weights.empty()) return status;
    const Count uk = Count(num_heads) * qk_nope_head_dim * kv_lora_rank;
    const Count ukv = Count(num_heads) * kv_lora_rank * (qk_nope_head_dim + v_head_dim);
    if (!detail::has_size(weights.w_uk.size(), uk)) {
      return fail(StatusCode::invalid_argument, "weights.w_uk has ", weights.w_uk.size(), " numbers, must have ", uk);
    }
    if (!detail::has_size(weights.w_ukv.size(), ukv)) {
      return fail(StatusCode::invalid_argument, "weights.w_ukv has ", weights.w_ukv.size(), " numbers, must have ",
                  ukv);
    }
    return {};
  }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return {.num_streams = 1,
            .streams = {StreamShape{1, row_width()}},
            .key = {.stream = 0, .offset = 0, .width = row_width()},
            .value = {.stream = 0, .offset = 0, .width = kv_lora_rank},
            .num_heads = num_heads,
            .num_kv_heads = 1,
            .key_width = row_width(),
            .value_width = kv_lora_rank,
            .scale = scale};
  }
  [[nodiscard]] MatrixMap query_map() const noexcept {
    if (weights.empty()) return {.matrix = {}, .head_stride = 0, .tail = row_width()};
    return {.matrix = {weights.w_uk.data(), qk_nope_head_dim, kv_lora_rank, kv_lora_rank},
            .head_stride = qk_nope_head_dim * kv_lora_rank,
            .tail = qk_rope_head_dim};
  }
  [[nodiscard]] MatrixMap output_map() const noexcept {
    if (weights.empty()) return {.matrix = {}, .head_stride = 0, .tail = kv_lora_rank};
    return {.matrix = to_values(), .head_stride = kv_lora_rank * (qk_nope_head_dim + v_head_dim), .tail = 0};
  }
  [[nodiscard]] KeyRotation preparation() const noexcept {
    return {.rope = rope, .key = layout().key, .stream_width = row_width(), .offset = kv_lora_rank};
  }

  /// Head 0's matrices that make nope keys and values of a latent.
  [[nodiscard]] Matrix to_keys() const noexcept {
    return {weights.w_ukv.data(), kv_lora_rank, qk_nope_head_dim, qk_nope_head_dim + v_head_dim};
  }
  [[nodiscard]] Matrix to_values() const noexcept {
    return {weights.w_ukv.data() + qk_nope_head_dim, kv_lora_rank, v_head_dim, qk_nope_head_dim + v_head_dim};
  }
};

/// Makes one head's keys and values of a tile of latent rows.
struct MlaExpansion {
  Mla mla;

  [[nodiscard]] bool makes_values() const noexcept { return true; }
  [[nodiscard]] bool rotates_keys() const noexcept { return mla.rope != nullptr; }
  void keys(Index head, Index count, const float* rows, const Index* positions, float* out, Linear linear) const {
    MatrixMap{.matrix = mla.to_keys(), .head_stride = head_stride(), .tail = mla.qk_rope_head_dim}.apply(
        head, count, rows, mla.row_width(), out, mla.qk_head_dim(), linear);
    if (mla.rope == nullptr) return;
    const Index first = mla.rope->options().rotary_offset;
    mla.rope->rotate_part(positions, count, 1, rows + mla.kv_lora_rank + first, mla.row_width(),
                          out + mla.qk_nope_head_dim + first, mla.qk_head_dim());
  }
  void values(Index head, Index count, const float* rows, const Index* /*positions*/, float* out, Linear linear) const {
    MatrixMap{.matrix = mla.to_values(), .head_stride = head_stride(), .tail = 0}.apply(
        head, count, rows, mla.row_width(), out, mla.v_head_dim, linear);
  }

 private:
  [[nodiscard]] Index head_stride() const noexcept {
    return mla.kv_lora_rank * (mla.qk_nope_head_dim + mla.v_head_dim);
  }
};

/// MLA in expanded form: the same cache, queries, outputs and answers as an Mla with weights, which it must have. Keys
/// and values of a tile exist once per worker, so a prompt of any length needs a few MiB, not num_heads times its cache.
struct MlaExpanded {
  Mla mla;

  static constexpr int key_stream = 0;
  static constexpr int value_stream = 0;
  [[nodiscard]] Status validate() const {
    Status status = mla.validate();
    if (status.ok() && mla.weights.empty()) {
      status = fail(StatusCode::invalid_argument, "weights are empty, expanded MLA needs them");
    }
    return status;
  }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    AttentionLayout shape = mla.layout();
    shape.value = shape.key;
    shape.num_kv_heads = mla.num_heads;
    shape.key_width = mla.qk_head_dim();
    shape.value_width = mla.v_head_dim;
    return shape;
  }
  [[nodiscard]] Identity query_map() const noexcept { return {}; }
  [[nodiscard]] Identity output_map() const noexcept { return {}; }
  [[nodiscard]] MlaExpansion preparation() const noexcept { return {mla}; }
};

/// Which form a call takes.
enum class MlaForm { automatic, absorbed, expanded };

/// Whether expanding costs fewer multiplications than absorbing, for `num_queries` causal queries at the end of
/// `num_keys` keys. Per head, with P the visible pairs:
///
///     absorbed   q rank (nope + v) + P (2 rank + rope)          expanded   keys rank (nope + v) + P (nope + rope + v)
///
/// Decode, verification of drafts and chunks below about 128 tokens absorb; a long prefill expands.
[[nodiscard]] constexpr bool mla_expansion_is_cheaper(const Mla& mla, Index num_queries, Index num_keys) noexcept {
  // Both sides without what they share: (keys - q) map < P (2 rank - nope - v). The left one fits into 64 bits for
  // every model, so the comparison is exact even where the right one sticks.
  const Index q = num_queries > 0 ? num_queries : 0, before = num_keys > q ? num_keys - q : 0;
  const Count made = Count(mla.qk_nope_head_dim) + mla.v_head_dim, read = 2 * Count(mla.kv_lora_rank);
  if (read.value() <= made.value()) return false;
  const Count triangle = Count(q - q / 2) * (q % 2 == 0 ? Count(q) + 1 : Count(q));  // q (q + 1) / 2
  const Count pairs = Count(q) * before + triangle;
  const Count expanding = Count(before) * mla.kv_lora_rank * made, saved = pairs * (read.value() - made.value());
  return expanding.value() < saved.value();
}

/// What MlaForm::automatic takes: the cheaper form, but for up to 16 queries always the absorbed one, so that the
/// verification of drafts has the bits of the decode steps it stands for, from the first token on.
[[nodiscard]] constexpr bool mla_expands(const Mla& mla, Index num_queries, Index num_keys) noexcept {
  return num_queries > 16 && mla_expansion_is_cheaper(mla, num_queries, num_keys);
}

}  // namespace heed::inline HEED_ABI
