/// \file
/// The MFA paper's comparison of mechanisms as generalised multi-head attention (GMHA): every head is a linear
/// query-key circuit W_c, a linear value-output circuit U_c and a softmax.
///
/// Source: arXiv 2412.19255, known here through secondary summaries. Where these disagree, every version has a name and
/// none is the default. For the counts of deployed layers use MlaShape, MfaShape and so on.
#pragma once

#include <heed/analysis/count.hpp>
#include <heed/analysis/sizes.hpp>

namespace heed::inline HEED_ABI::analysis {

/// The sizes of the comparison, with the paper's symbols.
struct GmhaSizes {
  Index hidden_size = 0;   ///< D
  Index num_heads = 0;     ///< n, heads of MHA, GQA and MQA; d = D / n
  Index num_kv_heads = 0;  ///< g, groups of GQA
  Index latent_dim = 0;    ///< C, latent of MLA and head size of MFA
  Index latent_heads = 0;  ///< m, heads of MLA and MFA
  Index rope_dim = 0;      ///< d_r, MLA's shared rope key

  /// d = D / n; 0 without heads.
  [[nodiscard]] constexpr Index head_dim() const noexcept { return num_heads < 1 ? 0 : hidden_size / num_heads; }

  /// invalid_argument for a size that is too small, or one that does not divide another as it must.
  [[nodiscard]] Status validate() const {
    if (Status status = check_sizes(1, {{"hidden_size", hidden_size},
                                        {"num_heads", num_heads},
                                        {"num_kv_heads", num_kv_heads},
                                        {"latent_dim", latent_dim},
                                        {"latent_heads", latent_heads}});
        !status.ok()) {
      return status;
    }
    if (hidden_size % num_heads != 0) {
      return fail(StatusCode::invalid_argument, "num_heads is ", num_heads, ", must divide hidden_size ", hidden_size);
    }
    if (num_heads % num_kv_heads != 0) {
      return fail(StatusCode::invalid_argument, "num_kv_heads is ", num_kv_heads, ", must divide num_heads ",
                  num_heads);
    }
    return check_sizes(0, {{"rope_dim", rope_dim}});
  }
};

/// One row of the comparison, per layer. FRH, SLSD and TER as in AttentionCosts.
struct GmhaRow {
  Index kv_elements = 0;  ///< per token
  Index parameters = 0;   ///< number of weights
  Index heads = 0;        ///< query heads
  Index frh = 0;          ///< factorisation rank per head
  Index slsd = 0;         ///< shared latent subspace dimension

  /// TER: heads x FRH.
  [[nodiscard]] constexpr Index ter() const noexcept { return (Count(heads) * frh).value(); }
  friend bool operator==(const GmhaRow&, const GmhaRow&) = default;
};

/// FPBA: 2 D^2 elements, 2 D^3 parameters, D heads of FRH D, SLSD D.
[[nodiscard]] constexpr GmhaRow gmha_fpba(const GmhaSizes& s) noexcept {
  const Count d = s.hidden_size;
  return {(2 * d * d).value(), (2 * d * d * d).value(), s.hidden_size, s.hidden_size, s.hidden_size};
}

/// GQA: 2 g d elements, (2 + 2 g/n) D^2 parameters, n heads of FRH d, SLSD g d.
[[nodiscard]] constexpr GmhaRow gmha_gqa(const GmhaSizes& s) noexcept {
  const Count width = Count(s.num_kv_heads) * s.head_dim();
  return {(2 * width).value(), (2 * Count(s.hidden_size) * (Count(s.hidden_size) + width)).value(), s.num_heads,
          s.head_dim(), width.value()};
}

/// MHA: GQA with g = n: 2 D elements, 4 D^2 parameters, SLSD D.
[[nodiscard]] constexpr GmhaRow gmha_mha(GmhaSizes s) noexcept {
  s.num_kv_heads = s.num_heads;
  return gmha_gqa(s);
}

/// MQA: GQA with g = 1: 2 d elements, (2 + 2/n) D^2 parameters, SLSD d.
[[nodiscard]] constexpr GmhaRow gmha_mqa(GmhaSizes s) noexcept {
  s.num_kv_heads = 1;
  return gmha_gqa(s);
}

/// Which count of MLA's cache to use, in elements per token.
enum class MlaCache {
  two_latents,           ///< 2 C
  two_latents_and_rope,  ///< 2 C + d_r
  latent_and_rope,       ///< C + d_r: what DeepSeek's models cache
};

/// Which count of MLA's parameters to use.
enum class MlaParameters {
  with_rope,  ///< D (3 C + d_r + m d) + m C (3 d + d_r)
  short_sum,  ///< 5 D C + D^2
};

/// MLA: m heads of FRH d, SLSD C.
[[nodiscard]] constexpr GmhaRow gmha_mla(const GmhaSizes& s, MlaCache cache, MlaParameters parameters) noexcept {
  const Count D = s.hidden_size, C = s.latent_dim, m = s.latent_heads, d = s.head_dim(), d_r = s.rope_dim;
  const Count latents = cache == MlaCache::latent_and_rope ? C : 2 * C;
  const Count rope = cache == MlaCache::two_latents ? Count(0) : d_r;
  const Count weights =
      parameters == MlaParameters::with_rope ? D * (3 * C + d_r + m * d) + m * C * (3 * d + d_r) : 5 * D * C + D * D;
  return {(latents + rope).value(), weights.value(), s.latent_heads, s.head_dim(), s.latent_dim};
}

/// Which count of MFA's parameters to use.
enum class MfaParameters {
  full_output,    ///< D (3 C + m C) + m C^2: each head's O_c is D x C; the count of MfaShape with r = C
  square_output,  ///< 3 C D + 2 m C^2: as if O_c were C x C, although the output has D numbers
};

/// MFA: 2 C elements, m heads of FRH C, SLSD C.
[[nodiscard]] constexpr GmhaRow gmha_mfa(const GmhaSizes& s, MfaParameters parameters) noexcept {
  const Count D = s.hidden_size, C = s.latent_dim, m = s.latent_heads;
  const Count weights =
      parameters == MfaParameters::full_output ? D * (3 * C + m * C) + m * C * C : 3 * C * D + 2 * m * C * C;
  return {(2 * C).value(), weights.value(), s.latent_heads, s.latent_dim, s.latent_dim};
}

/// Whether MFA-KR's mixer, N and alpha, is counted.
enum class MfaKrMixer {
  kept,    ///< N and alpha are stored: D (2 C + m C) + m C^2 + C^2 + C
  folded,  ///< folded into the output projection: D (2 C + m C) + m C^2
};

/// MFA-KR: C elements, m heads of FRH C, SLSD C. The counts are inferred from the formulas; no source prints them.
[[nodiscard]] constexpr GmhaRow gmha_mfa_kr(const GmhaSizes& s, MfaKrMixer mixer) noexcept {
  const Count D = s.hidden_size, C = s.latent_dim, m = s.latent_heads;
  const Count extra = mixer == MfaKrMixer::kept ? C * C + C : Count(0);
  return {C.value(), (D * (2 * C + m * C) + m * C * C + extra).value(), s.latent_heads, s.latent_dim, s.latent_dim};
}

}  // namespace heed::inline HEED_ABI::analysis
