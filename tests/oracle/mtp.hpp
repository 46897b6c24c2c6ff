/// \file
/// DeepSeek-V3's module for multi-token prediction (arXiv 2412.19437) in float64, around one decoder layer of MLA and a
/// dense SwiGLU:
///
///     x  = [RMSNorm(Emb(t_(i+1)); enorm) ; RMSNorm(h_i; hnorm)] Weh^T          the embedding first
///     a  = x + MLA(RMSNorm(x; input_layernorm))
///     h' = a + down(silu(gate n) up n),   n = RMSNorm(a; post_attention_layernorm)
///     logits of t_(i+2) = RMSNorm(h'; shared_head.norm) Whead^T
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "oracle/mla.hpp"

namespace oracle {

/// Which hidden of its own the module is fed for a further draft: that after shared_head.norm, or that before it.
enum class Recycling { post, pre };

/// Weights are [out, in] and have their Hugging Face names.
struct Mtp {
  Mla attention = {};
  double eps = 0;
  bool zero_first_embedding = false;  ///< of the slot at position 0
  Numbers embed_tokens = {}, enorm = {}, hnorm = {}, eh_proj = {};
  Numbers input_layernorm = {}, post_attention_layernorm = {};
  Numbers gate_proj = {}, up_proj = {}, down_proj = {};
  Numbers shared_head_norm = {}, shared_head = {};

  /// Slots from the first on: hidden h_i with token t_(i+1), at position i.
  struct Slots {
    std::vector<Int> tokens = {};
    Numbers hiddens = {};  ///< [slots][hidden_size]
    std::vector<Int> positions = {};
  };
  /// What the slots come to, a row each.
  struct Trace {
    Numbers combined, rows, attention, after_attention, feed_forward, hidden, normed, logits;
  };
  struct Drafts {
    std::vector<Int> tokens = {};  ///< the first is what the last slot says, the others what the row before says
    Numbers logits = {};           ///< [tokens][vocabulary], after feeding each
  };

  [[nodiscard]] Int hidden_size() const { return Int(enorm.size()); }
  [[nodiscard]] Int vocabulary() const { return Int(shared_head.size()) / hidden_size(); }

  [[nodiscard]] Numbers embeddings(const std::vector<Int>& tokens) const {
    Numbers rows;
    for (const Int token : tokens) {
      const auto row = embed_tokens.begin() + token * hidden_size();
      rows.insert(rows.end(), row, row + hidden_size());
    }
    return rows;
  }

  /// What enters the layer.
  [[nodiscard]] Numbers combine(Numbers embeddings, const Numbers& hiddens, const std::vector<Int>& positions) const {
    const Int width = hidden_size();
    for (std::size_t i = 0; zero_first_embedding && i < positions.size(); ++i) {
      if (positions[i] == 0) std::fill_n(embeddings.begin() + std::ptrdiff_t(i) * width, width, 0.0);
    }
    const Numbers e = rms_norm(std::move(embeddings), enorm, eps), h = rms_norm(hiddens, hnorm, eps);
    Numbers both;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      for (const Numbers* part : {&e, &h}) {
        const auto row = part->begin() + std::ptrdiff_t(i) * width;
        both.insert(both.end(), row, row + width);
      }
    }
    return linear(both, eh_proj, 2 * width);
  }

  /// down(silu(gate x) up x)
  [[nodiscard]] Numbers feed_forward(const Numbers& x) const {
    Numbers gates = linear(x, gate_proj, hidden_size());
    const Numbers ups = linear(x, up_proj, hidden_size());
    for (std::size_t i = 0; i < gates.size(); ++i) gates[i] *= ups[i] / (1 + std::exp(-gates[i]));
    return linear(gates, down_proj, Int(gate_proj.size()) / hidden_size());
  }

  /// Of hiddens that left the layer.
  [[nodiscard]] Numbers logits(const Numbers& hidden) const {
    return linear(rms_norm(hidden, shared_head_norm, eps), shared_head, hidden_size());
  }

  [[nodiscard]] Trace run(const Slots& slots) const {
    Trace t;
    t.combined = combine(embeddings(slots.tokens), slots.hiddens, slots.positions);
    const Numbers x = rms_norm(t.combined, input_layernorm, eps);
    t.rows = attention.rows(x, slots.positions);
    t.attention = attention.output(attention.naive(attention.queries(x, slots.positions), t.rows).o);
    t.after_attention = sum(t.combined, t.attention);
    t.feed_forward = feed_forward(rms_norm(t.after_attention, post_attention_layernorm, eps));
    t.hidden = sum(t.after_attention, t.feed_forward);
    t.normed = rms_norm(t.hidden, shared_head_norm, eps);
    t.logits = logits(t.hidden);
    return t;
  }

  /// Greedy drafts after the slots, each in a slot of its own.
  [[nodiscard]] Drafts drafts(Slots slots, Int count, Recycling recycling) const {
    Drafts made;
    Trace t = run(slots);
    for (Int i = 0; i < count; ++i) {
      const auto said = t.logits.end() - vocabulary();
      made.tokens.push_back(Int(std::max_element(said, t.logits.end()) - said));
      const Numbers& own = recycling == Recycling::post ? t.normed : t.hidden;
      slots.hiddens.insert(slots.hiddens.end(), own.end() - hidden_size(), own.end());
      slots.tokens.push_back(made.tokens.back());
      slots.positions.push_back(slots.positions.back() + 1);
      t = run(slots);
      made.logits.insert(made.logits.end(), t.logits.end() - vocabulary(), t.logits.end());
    }
    return made;
  }

 private:
  [[nodiscard]] static Numbers sum(Numbers a, const Numbers& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }
};

}  // namespace oracle
