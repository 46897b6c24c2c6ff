/// \file
/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434; V3, arXiv 2412.19437). A token leaves one row for all
/// heads:
///
///     row_s = [c_s | k_s],   c_s the normalised latent [kv_lora_rank], k_s the rotated rope key [qk_rope_head_dim]
///
/// Head h has the keys [W_UK c_s | k_s] and the values W_UV c_s, with its own W_UK and W_UV. There are two forms. Their
/// results agree within rounding:
///
///     absorbed   q' = [W_UK^T q_nope | q_rope] meets the rows themselves; o = W_UV sum_s p_s c_s. Cheap decode
///     expanded   keys and values are made from the rows, a chunk at a time inside the kernel. Cheap prefill
#pragma once

#include <cstdint>
#include <span>

#include <heed/policy/grouped.hpp>
#include <heed/policy/matrix_map.hpp>
#include <heed/policy/rotated_keys.hpp>

namespace heed::inline HEED_ABI {

/// The up-projections of one layer, as both forms read them, as floats or as bfloat16 numbers: two of the spans are empty.
/// Not owned; PackedMlaWeights in layer/mla.hpp makes them. Numbers of heads follow each other:
///
///               without panels                                          with panels (Matrix)
///     w_uk      W_UK [qk_nope_head_dim][kv_lora_rank], for queries      the same matrix
///     w_ukv     [kv_lora_rank][qk_nope_head_dim + v_head_dim]:          the matrix W_UK^T, then the matrix W_UV^T
///               [W_UK^T | W_UV^T]
struct MlaWeights {
  std::span<const float> w_uk = {};                ///< as floats
  std::span<const float> w_ukv = {};               ///< as floats
  std::span<const std::uint16_t> w_uk_bf16 = {};   ///< as bfloat16 (Bf16); products widen them to floats
  std::span<const std::uint16_t> w_ukv_bf16 = {};  ///< as bfloat16
  bool panels = false;                             ///< in the order of a step's reads, which is 2 to 3 times faster

  /// true if there are no weights.
  [[nodiscard]] bool empty() const noexcept { return w_uk.empty() && w_ukv.empty() && !is_bf16(); }
  /// true if there are bfloat16 weights.
  [[nodiscard]] bool is_bf16() const noexcept { return !w_uk_bf16.empty() || !w_ukv_bf16.empty(); }
};

/// MLA in absorbed form. Caches one row of kv_lora_rank + qk_rope_head_dim numbers per token, whatever num_heads is.
///
/// With `weights`, q is [num_heads][qk_nope_head_dim + qk_rope_head_dim], its rope part rotated, and out is
/// [num_heads][v_head_dim]. Without them, q must be absorbed, [num_heads][kv_lora_rank + qk_rope_head_dim], and out is
/// latent, [num_heads][kv_lora_rank]. A cache needs no weights: create it with an Mla without weights, and call
/// attend() with each layer's Mla.
struct Mla {
  Index num_heads = 0;         ///< query heads
  Index kv_lora_rank = 0;      ///< width of the latent
  Index qk_rope_head_dim = 0;  ///< width of the rope key; 0: none
  Index qk_nope_head_dim = 0;  ///< width of the part of a query that is not rotated
  Index v_head_dim = 0;        ///< width of a head's output
  /// (qk_nope_head_dim + qk_rope_head_dim)^-1/2, times Yarn::softmax_factor() if the model uses YaRN. It is not made
  /// from the width of the row. Must be set.
  float scale = unset_scale;
  MlaWeights weights = {};  ///< of one layer, or none
  /// Rotates rope keys when they are read; its head_dim is qk_rope_head_dim. Rows are then stored with un-rotated rope
  /// keys, as in-cache rank positions need them. Not owned. Null: rows are stored with rotated rope keys.
  const Rope* rope = nullptr;

  /// What AttentionPolicy asks for (concepts.hpp), and widths.
  /// \{
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 0;

  /// Width of a cached row; count_limit if it does not fit into 64 bits.
  [[nodiscard]] Index row_width() const noexcept { return (Count(kv_lora_rank) + qk_rope_head_dim).value(); }
  /// Width of a head's query, and of its expanded key.
  [[nodiscard]] Index qk_head_dim() const noexcept { return (Count(qk_nope_head_dim) + qk_rope_head_dim).value(); }

  /// Width of what a latent expands to for a head: its nope key and its value.
  [[nodiscard]] Index expanded_width() const noexcept { return (Count(qk_nope_head_dim) + v_head_dim).value(); }

  [[nodiscard]] Status validate() const {
    constexpr Index most = detail::most_width / 2;  // two of them make a row
    Status status = detail::check_range("kv_lora_rank", kv_lora_rank, 1, most);
    if (status.ok()) status = detail::check_range("qk_rope_head_dim", qk_rope_head_dim, 0, most);
    if (status.ok()) status = detail::check_range("qk_nope_head_dim", qk_nope_head_dim, 1, most);
    if (status.ok()) status = detail::check_range("v_head_dim", v_head_dim, 1, most);
    if (status.ok()) status = detail::validate_heads(num_heads, 1, row_width(), v_head_dim, scale);
    if (status.ok()) status = detail::check_rope(rope, "qk_rope_head_dim", qk_rope_head_dim);
    if (!status.ok() || weights.empty()) return status;
    const Count uk = Count(num_heads) * qk_nope_head_dim * kv_lora_rank;
    const Count ukv = Count(num_heads) * kv_lora_rank * (qk_nope_head_dim + v_head_dim);
    if (weights.is_bf16() && !(weights.w_uk.empty() && weights.w_ukv.empty())) {
      return fail(StatusCode::invalid_argument, "weights has ", weights.w_uk.size() + weights.w_ukv.size(),
                  " floats beside bf16 numbers, must have one of them");
    }
    const auto check = [](const char* floats, const char* bf16, bool is_bf16, std::size_t size,
                          Count wanted) -> Status {
      if (detail::has_size(size, wanted)) return {};
      return fail(StatusCode::invalid_argument, is_bf16 ? bf16 : floats, " has ", size, " numbers, must have ", wanted);
    };
    const bool bf16 = weights.is_bf16();
    status =
        check("weights.w_uk", "weights.w_uk_bf16", bf16, bf16 ? weights.w_uk_bf16.size() : weights.w_uk.size(), uk);
    if (!status.ok()) return status;
    return check("weights.w_ukv", "weights.w_ukv_bf16", bf16, bf16 ? weights.w_ukv_bf16.size() : weights.w_ukv.size(),
                 ukv);
  }
  [[nodiscard]] AttentionLayout layout() const noexcept {
    return detail::shared_row_layout(num_heads, 1, row_width(), kv_lora_rank, scale);
  }
  [[nodiscard]] MatrixMap query_map() const noexcept {
    if (weights.empty()) return {.matrix = {}, .head_stride = 0, .tail = row_width()};
    return {.matrix = {.data = weights.w_uk.data(),
                       .in = qk_nope_head_dim,
                       .out = kv_lora_rank,
                       .stride = kv_lora_rank,
                       .bf16 = weights.is_bf16() ? weights.w_uk_bf16.data() : nullptr,
                       .panels = weights.panels},
            .head_stride = (Count(qk_nope_head_dim) * kv_lora_rank).value(),
            .tail = qk_rope_head_dim};
  }
  [[nodiscard]] MatrixMap output_map() const noexcept {
    if (weights.empty()) return {.matrix = {}, .head_stride = 0, .tail = kv_lora_rank};
    return {.matrix = to_values(), .head_stride = (Count(kv_lora_rank) * expanded_width()).value(), .tail = 0};
  }
  [[nodiscard]] KeyRotation preparation() const noexcept {
    return {.rope = rope, .key = layout().key, .stream_width = row_width(), .offset = kv_lora_rank};
  }
  /// \}

  /// Matrices of head 0 that make nope keys and values from a latent: W_UK^T and W_UV^T.
  /// \{
  [[nodiscard]] Matrix to_keys() const noexcept { return up_projection(0, qk_nope_head_dim); }
  [[nodiscard]] Matrix to_values() const noexcept { return up_projection(qk_nope_head_dim, v_head_dim); }
  /// \}

 private:
  // The columns [first, first + out) of [W_UK^T | W_UV^T], which are one of the two.
  [[nodiscard]] Matrix up_projection(Index first, Index out) const noexcept {
    const Matrix all{.data = weights.w_ukv.data(),
                     .in = kv_lora_rank,
                     .out = out,
                     .stride = expanded_width(),
                     .bf16 = weights.is_bf16() ? weights.w_ukv_bf16.data() : nullptr,
                     .panels = weights.panels};
    return all.moved(weights.panels ? (Count(kv_lora_rank) * first).value() : first);
  }
};

/// RowPreparation: makes one head's keys and values from a chunk of latent rows.
struct MlaExpansion {
  Mla mla;  ///< must have weights

  /// What RowPreparation asks for (concepts.hpp).
  /// \{
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
  /// \}

 private:
  [[nodiscard]] Index head_stride() const noexcept { return (Count(mla.kv_lora_rank) * mla.expanded_width()).value(); }
};

/// MLA in expanded form. Cache, queries and outputs are those of an Mla with weights; the results agree within
/// rounding. Keys and values exist for one chunk per worker, so a prompt of any length needs a few MiB, not num_heads
/// times its cache.
struct MlaExpanded {
  Mla mla;  ///< must have weights

  /// What AttentionPolicy asks for (concepts.hpp).
  /// \{
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
  /// \}
};

/// Which form a call uses.
enum class MlaForm {
  automatic,  ///< what mla_expands() says
  absorbed,   ///< Mla
  expanded,   ///< MlaExpanded
};

/// true if expanding costs fewer multiplications than absorbing, for `num_queries` causal queries at the end of
/// `num_keys` keys. Multiplications per head, where `pairs` is the number of (query, key) pairs with the key visible:
///
///     absorbed   num_queries kv_lora_rank (nope + v) + pairs (2 kv_lora_rank + rope)
///     expanded   num_keys    kv_lora_rank (nope + v) + pairs (nope + rope + v)
///
/// Absorbing is cheaper for decode, verification of drafts and chunks below about 128 tokens; expanding for long
/// prompts.
[[nodiscard]] constexpr bool mla_expansion_is_cheaper(const Mla& mla, Index num_queries, Index num_keys) noexcept {
  // Without the common terms: (num_keys - q) kv_lora_rank (nope + v) < pairs (2 kv_lora_rank - nope - v). The left side
  // fits into 64 bits for every model, so the comparison is right even where the right side sticks at count_limit.
  const Index q = num_queries > 0 ? num_queries : 0, before = num_keys > q ? num_keys - q : 0;
  const Count made = Count(mla.qk_nope_head_dim) + mla.v_head_dim, read = 2 * Count(mla.kv_lora_rank);
  if (read.value() <= made.value()) return false;
  const Count triangle = Count(q - q / 2) * (q % 2 == 0 ? Count(q) + 1 : Count(q));  // q (q + 1) / 2
  const Count pairs = Count(q) * before + triangle;
  const Count expanding = Count(before) * mla.kv_lora_rank * made, saved = pairs * (read.value() - made.value());
  return expanding.value() < saved.value();
}

/// true if MlaForm::automatic expands. Up to 16 queries it always absorbs: so the verification of drafts has the bits
/// of the decode steps it stands for. Beyond, it takes the cheaper form.
[[nodiscard]] constexpr bool mla_expands(const Mla& mla, Index num_queries, Index num_keys) noexcept {
  return num_queries > 16 && mla_expansion_is_cheaper(mla, num_queries, num_keys);
}

}  // namespace heed::inline HEED_ABI
