/// \file
/// MatMul-free language models: bytes of ternary weights, and a state beside the KV cache it stands for.
#pragma once

#include <heed/analysis/grouped_shape.hpp>
#include <heed/analysis/model.hpp>
#include <heed/ternary/matmulfree_lm.hpp>

#include "tables/table.hpp"

namespace heed_examples {

struct MatMulFreeModel {
  const char* name = "";
  heed::MatMulFreeConfig config;
};

[[nodiscard]] inline std::vector<MatMulFreeModel> matmulfree_models() {
  return {{"370M", heed::matmulfree_370m}, {"1.3B", heed::matmulfree_1_3b}, {"2.7B", heed::matmulfree_2_7b}};
}

/// Bytes of the ternary weights alone, without padding.
template <heed::TernaryLayout L>
[[nodiscard]] double ternary_bytes(const heed::MatMulFreeConfig& config) {
  return double(config.ternary_parameters()) * L::bits_per_weight / 8;
}

[[nodiscard]] inline Table ternary_weights_table() {
  Table table{.title = "MatMul-free LM (arXiv 2406.02528): weights, in MB (1e6 bytes)",
              .notes = {"tokens/s: read bandwidth over the ternary weights, all read once a token."},
              .columns = {"model", "D", "L", "I", "ternary", "embedding", "2 bits", "1.6 bits", "+ bf16 emb.", "bf16",
                          "25 GB/s", "100 GB/s"},
              .rows = {}};
  for (const MatMulFreeModel& m : matmulfree_models()) {
    const heed::MatMulFreeConfig& c = m.config;
    const double two_bit = ternary_bytes<heed::TwoBit>(c), five_trits = ternary_bytes<heed::FiveTrits>(c);
    const double embedding = 2 * double(c.embedding_parameters());
    table.rows.push_back({words(m.name), count(c.hidden_size), count(c.num_hidden_layers), count(c.intermediate_size),
                          count(c.ternary_parameters()), count(c.embedding_parameters()), decimal(two_bit / 1e6, 1),
                          decimal(five_trits / 1e6, 1), decimal((two_bit + embedding) / 1e6, 1),
                          decimal((2 * double(c.ternary_parameters()) + embedding) / 1e6, 1),
                          decimal(25e9 / two_bit, 0), decimal(100e9 / two_bit, 0)});
  }
  return table;
}

[[nodiscard]] inline Table state_table() {
  Table table{.title = "Its state (float32) beside the KV cache of MHA of the same shape (16 bits), bytes",
              .notes = {"A token's share of the state falls as 1 / tokens; its rows in a cache stay what they are."},
              .columns = {"model", "tokens", "state", "a token", "MHA cache", "a token", "state / cache"},
              .rows = {}};
  for (const MatMulFreeModel& m : matmulfree_models()) {
    const heed::MatMulFreeConfig& c = m.config;
    const heed::analysis::GroupedShape mha =
        heed::analysis::mha_shape(c.hidden_size, c.hidden_size / 64, heed::Index{64});
    const heed::Index row = heed::analysis::kv_bytes_per_token(
        heed::analysis::uniform_model("", c.num_hidden_layers, mha.costs(), heed::analysis::rows_16bit));
    for (const heed::Index tokens : {1, 2048, 32768}) {
      table.rows.push_back({words(m.name), count(tokens), count(c.state_bytes()),
                            decimal(double(c.state_bytes()) / double(tokens), 1), count(row * tokens), count(row),
                            percent(double(c.state_bytes()) / double(row * tokens), 4)});
    }
  }
  return table;
}

}  // namespace heed_examples
