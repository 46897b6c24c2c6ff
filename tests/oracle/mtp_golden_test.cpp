// The MTP module's reference against reference data that was not made with it: everything a slot passes through, logits,
// and drafts from either hidden.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "oracle/mtp_of.hpp"

namespace heed_test::mtp_golden_test {
namespace {

using oracle::Int;
using oracle::Numbers;
using oracle::golden::Safetensors;

TEST(OracleGolden, Mtp) {
  const auto cases = oracle::golden::cases_of({"mtp"});
  ASSERT_GE(cases.size(), 3u);
  bool later = false;
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    const Safetensors file = one.open();
    oracle::Mtp mtp = oracle::golden::mtp_of(one.config, file);
    EXPECT_EQ(mtp.hidden_size(), Int(one.config["hidden_size"]));
    EXPECT_EQ(mtp.vocabulary(), Int(one.config["vocab_size"]));
    const oracle::Mtp::Slots slots{file.get<Int>("input_ids"), file.get<double>("previous_hidden_states"),
                                   file.get<Int>("positions")};
    const bool starts = slots.positions.front() == 0;  // where the embedding is zero
    later = later || !starts;

    std::map<std::string, Numbers> got;
    std::map<std::string, std::vector<Int>> tokens;
    const oracle::Mtp::Trace t = mtp.run(slots);
    const Int rank = mtp.attention.kv_lora_rank, rope = mtp.attention.qk_rope_head_dim;
    got["h_eh_proj"] = t.combined;
    got["cache_latent"] = oracle::columns(t.rows, rank + rope, 0, rank);
    got["cache_k_pe"] = oracle::columns(t.rows, rank + rope, rank, rope);
    got["attn_out"] = t.attention;
    got["h_after_attn"] = t.after_attention;
    got["mlp_out"] = t.feed_forward;
    got["hidden_out"] = t.hidden;
    got["hidden_normed"] = t.normed;
    got["logits"] = t.logits;
    got["logits_mla_only"] = mtp.logits(t.after_attention);
    for (const auto& [name, recycling] :
         {std::pair{"post", oracle::Recycling::post}, {"pre", oracle::Recycling::pre}}) {
      const std::string key = std::string("draft_tokens_") + name;
      const auto drafts = mtp.drafts(slots, file.info(key).shape.at(0), recycling);
      tokens[key] = drafts.tokens;
      got[std::string("draft_logits_") + name] = drafts.logits;
    }
    mtp.zero_first_embedding = false;
    got["logits_no_zeroing"] = mtp.run(slots).logits;
    EXPECT_EQ(got["logits_no_zeroing"] == got["logits"], !starts) << "the rule is of position 0 only";

    // Float64 on both sides.
    for (const auto& [name, numbers] : got) {
      oracle::golden::expect_near(numbers, file.get<double>(name), 1e-10, name);
    }
    for (const auto& [name, list] : tokens) EXPECT_EQ(list, file.get<Int>(name)) << name;
    const std::set<std::string> inputs{"input_ids", "previous_hidden_states", "positions", "chunk_lens"};
    for (const auto& [name, info] : file.tensors()) {
      EXPECT_TRUE(name.ends_with(".weight") || inputs.contains(name) || got.contains(name) || tokens.contains(name))
          << name << " was not compared";
    }
  }
  EXPECT_TRUE(later) << "a run that starts later";
}

}  // namespace
}  // namespace heed_test::mtp_golden_test
