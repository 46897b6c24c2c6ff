/// \file
/// The attention policies of heed, each made for the sizes that a test asks for. A new policy is an entry here.
#pragma once

#include <algorithm>
#include <vector>

#include <heed/policy/grouped.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/policy/mla.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/policy/shared_row.hpp>

#include "oracle/random.hpp"

namespace heed_test {

struct PolicySizes {
  heed::Index heads = 4;  ///< a multiple of kv_heads
  heed::Index kv_heads = 2;
  heed::Index width = 24;  ///< of keys, a multiple of 4
  heed::Index v_width = 16;
  float scale = 0.2f;
};

/// A policy, and the one that a cache for it is made of.
template <class P, class Cached = P>
struct PolicyCase {
  const char* name;
  P policy;
  Cached cached;
  heed::Index q_width, out_width;  ///< of one head
};
template <class P, class Cached>
PolicyCase(const char*, P, Cached, heed::Index, heed::Index) -> PolicyCase<P, Cached>;

/// What policies refer to.
class PolicyParts {
 public:
  explicit PolicyParts(const PolicySizes& s) : sizes_(s), rope_(make(s.width)), latent_rope_(make(rope_dim())) {
    oracle::Random random(4);
    const heed::Index rank = s.width, nope = s.width / 2;
    uk_ = random.gaussians(s.heads * nope * rank, 0.2);
    ukv_ = random.gaussians(s.heads * rank * (nope + s.v_width), 0.2);
  }
  [[nodiscard]] heed::Gqa gqa() const {
    return {.num_heads = sizes_.heads,
            .num_kv_heads = sizes_.kv_heads,
            .head_dim = sizes_.width,
            .v_head_dim = sizes_.v_width,
            .scale = sizes_.scale};
  }
  [[nodiscard]] heed::Mla mla() const {
    heed::Mla made{.num_heads = sizes_.heads,
                   .kv_lora_rank = sizes_.width,
                   .qk_rope_head_dim = rope_dim(),
                   .qk_nope_head_dim = sizes_.width / 2,
                   .v_head_dim = sizes_.v_width,
                   .scale = sizes_.scale};
    made.weights = {uk_, ukv_};
    return made;
  }
  [[nodiscard]] const heed::Rope* rope() const { return &rope_; }
  [[nodiscard]] const heed::Rope* latent_rope() const { return &latent_rope_; }
  [[nodiscard]] heed::Index mla_q_width() const { return sizes_.width / 2 + rope_dim(); }

 private:
  static heed::Rope make(heed::Index width) {
    return heed::value_or_throw(
        heed::Rope::create({.head_dim = width, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  }
  [[nodiscard]] heed::Index rope_dim() const { return std::max<heed::Index>(2, sizes_.width / 4 / 2 * 2); }

  PolicySizes sizes_;
  heed::Rope rope_, latent_rope_;
  std::vector<float> uk_, ukv_;
};

/// Calls f with a PolicyCase of every policy.
template <class F>
void for_each_policy(const PolicySizes& s, const F& f) {
  const PolicyParts parts(s);
  const heed::Mla mla = parts.mla();
  const auto plain = [&](const char* name, const auto& policy, heed::Index q_width, heed::Index out_width) {
    f(PolicyCase{name, policy, policy, q_width, out_width});
  };
  plain("gqa", parts.gqa(), s.width, s.v_width);
  plain("mha", heed::Mha{.num_heads = s.kv_heads, .head_dim = s.width, .v_head_dim = s.v_width, .scale = s.scale},
        s.width, s.v_width);
  plain("mqa", heed::Mqa{.num_heads = s.heads, .head_dim = s.width, .v_head_dim = s.v_width, .scale = s.scale}, s.width,
        s.v_width);
  plain("mfa", heed::Mfa{.num_heads = s.heads, .head_dim = s.width, .scale = s.scale}, s.width, s.width);
  const heed::Index shared = std::min(s.width, s.v_width);
  plain("shared_row",
        heed::SharedRow{.num_heads = s.heads, .head_dim = s.width, .v_head_dim = shared, .scale = s.scale}, s.width,
        shared);
  plain("mfa_kr", heed::MfaKr{.num_heads = s.heads, .head_dim = s.width, .scale = s.scale, .rope = parts.rope()},
        s.width, s.width);
  plain("mla", mla, parts.mla_q_width(), s.v_width);
  f(PolicyCase{"mla_expanded", heed::MlaExpanded{mla}, mla, parts.mla_q_width(), s.v_width});
}

/// Calls f with a PolicyCase of every policy whose keys turn when they are read, as in-cache ranks need.
template <class F>
void for_each_turning_policy(const PolicySizes& s, const F& f) {
  const PolicyParts parts(s);
  heed::Mla mla = parts.mla();
  mla.rope = parts.latent_rope();
  const heed::RotatedKeys<heed::Gqa> gqa{parts.gqa(), parts.rope()};
  f(PolicyCase{"rotated gqa", gqa, gqa, s.width, s.v_width});
  const heed::MfaKr kr{.num_heads = s.heads, .head_dim = s.width, .scale = s.scale, .rope = parts.rope()};
  f(PolicyCase{"mfa_kr", kr, kr, s.width, s.width});
  f(PolicyCase{"mla that turns", mla, mla, parts.mla_q_width(), s.v_width});
  f(PolicyCase{"mla_expanded that turns", heed::MlaExpanded{mla}, mla, parts.mla_q_width(), s.v_width});
}

}  // namespace heed_test
