// The retention rules against reference data that was not made with them: masks, kept lists, and outputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "oracle/anchors.hpp"
#include "oracle/golden_cases.hpp"
#include "oracle/separator_stream.hpp"
#include "oracle/separators.hpp"
#include "oracle/sequence.hpp"
#include "oracle/sinks.hpp"

namespace heed_test::retention_golden_test {
namespace {

using oracle::Answer;
using oracle::Int;
using oracle::Numbers;
using oracle::Positions;
using oracle::Tokens;
using oracle::Trace;
using oracle::golden::cases_of;
using oracle::golden::expect_near;
using Lists = std::vector<Tokens>;

// Angles are at most the number of tokens, so float64 formulas agree to a few roundings; official code takes its
// softmax in float32.
constexpr double exact = 1e-14, official = 1e-6;

/// A case that remembers which of its tensors were looked at.
class Golden {
 public:
  explicit Golden(const oracle::golden::Case& one) : config(one.config), file_(one.open()) {}

  nlohmann::json config;

  [[nodiscard]] bool has(const std::string& name) const { return file_.contains(name); }
  [[nodiscard]] Int size(const char* name) const { return config.at(name); }
  [[nodiscard]] std::vector<Int> shape(const std::string& name) const { return file_.info(name).shape; }
  [[nodiscard]] Tokens tokens(const std::string& name) { return read<Int>(name); }
  [[nodiscard]] Numbers numbers(const std::string& name) { return read<double>(name); }
  /// The rows of an index list without their padding of -1.
  [[nodiscard]] Lists lists(const std::string& name) {
    const Tokens all = tokens(name);
    const Int width = shape(name).at(1);
    Lists rows;
    for (auto row = all.begin(); row != all.end(); row += width) {
      rows.emplace_back(row, std::find(row, row + width, Int(-1)));
      EXPECT_EQ(std::count(row, row + width, Int(-1)), width - Int(rows.back().size())) << name;
    }
    return rows;
  }

  void expect_mask(const std::string& name, const oracle::Visible& visible) {
    const Tokens want = tokens(name);
    const Int count = shape(name).back();
    ASSERT_EQ(Int(want.size()) % (count * count), 0) << name;
    ASSERT_GT(want.size(), 0u) << name;
    for (Int at = 0; at < Int(want.size()); ++at) {
      const Int query = at / count % count, key = at % count;
      ASSERT_EQ(visible(query, key) ? 1 : 0, want[std::size_t(at)]) << name << " query " << query << " key " << key;
    }
  }
  void expect_outputs(const Answer& got, const char* o, const char* lse) {
    expect_near(got.o, numbers(o), exact, o);
    expect_near(got.lse, numbers(lse), exact, lse);
  }
  void expect_all_read() const {
    for (const auto& [name, info] : file_.tensors()) EXPECT_TRUE(read_.contains(name)) << name << " was not compared";
  }

  [[nodiscard]] oracle::Sequence sequence(const std::string& suffix) {
    const Int dim = size("head_dim");
    oracle::Sequence s{.heads = {.heads = size("num_attention_heads"),
                                 .kv_heads = size("num_key_value_heads"),
                                 .key_dim = dim,
                                 .value_dim = dim,
                                 .scale = config["softmax_scale"],
                                 .q = numbers("q_" + suffix),
                                 .k = numbers("k_" + suffix),
                                 .v = numbers("v")}};
    const std::string layout = config["rope_layout"];
    EXPECT_TRUE(layout == "none" || layout == "half (NeoX)") << layout;
    if (layout != "none") s.rotation.frequencies = oracle::rope_frequencies(dim, config["rope_theta"]);
    return s;
  }

 private:
  template <class T>
  [[nodiscard]] std::vector<T> read(const std::string& name) {
    read_.insert(name);
    return file_.get<T>(name);
  }

  oracle::golden::Safetensors file_;
  std::set<std::string> read_;
};

/// name_0, name_1, ...: the tensors of a file with several small cases.
std::string numbered(std::string name, std::size_t i) {
  name += '_';
  name += std::to_string(i);
  return name;
}

Lists kept(const Trace& steps) {
  Lists lists;
  for (const auto& step : steps) lists.push_back(step.kept);
  return lists;
}
/// What is kept after each of these calls.
Lists kept(const Trace& steps, const Tokens& calls) {
  Lists lists;
  Int end = 0;
  for (const Int size : calls) lists.push_back(steps.at(std::size_t((end += size) - 1)).kept);
  EXPECT_EQ(end, Int(steps.size()));
  return lists;
}
Tokens lengths(const Lists& lists) {
  Tokens sizes;
  for (const Tokens& list : lists) sizes.push_back(Int(list.size()));
  return sizes;
}

/// Everything in a case of a rule that is a mask: the mask, what is kept after each call, and outputs computed at once
/// and from the cache that forgets.
template <class Rule>
void expect_masked_attention(Golden& g, const Rule& rule) {
  ASSERT_EQ(g.config["positions"], "absolute");
  const auto sequence = g.sequence("pre_rope");
  const Trace steps = rule.trace(sequence.tokens());
  const Tokens calls = g.tokens("chunk_lens"), one_by_one(steps.size(), 1);
  g.expect_mask("visible", rule.mask());
  g.expect_mask("visible", oracle::seen_in(steps));
  EXPECT_EQ(kept(steps, calls), g.lists("kept_idx"));
  EXPECT_EQ(lengths(kept(steps, calls)), g.tokens("kept_len"));
  if (g.has("kept_idx_token_by_token")) {
    EXPECT_EQ(kept(steps), g.lists("kept_idx_token_by_token"));
  }
  g.expect_outputs(sequence.masked(rule.mask()), "o_heads", "lse");
  g.expect_outputs(sequence.decoded(steps, calls, Positions::absolute), "o_heads", "lse");
  g.expect_outputs(sequence.decoded(steps, one_by_one, Positions::absolute), "o_heads", "lse");
}

/// Everything in a case of a cache whose keys are rotated by rank.
void expect_ranked_attention(Golden& g, const Trace& steps) {
  ASSERT_TRUE(g.config["positions"].get<std::string>().starts_with("in-cache rank"));
  const auto sequence = g.sequence("unrotated");
  ASSERT_EQ(sequence.tokens(), Int(steps.size()));
  Lists seen;
  for (const auto& step : steps) seen.push_back(step.seen);
  EXPECT_EQ(lengths(seen), g.tokens("attended_len"));
  const Answer answer = sequence.decoded(steps, Tokens(steps.size(), 1), Positions::rank);
  g.expect_outputs(answer, "o_heads_f64", "lse_f64");
  expect_near(answer.o, g.numbers("o_heads"), official, "o_heads");
}

TEST(OracleGolden, Anchors) {
  const auto cases = cases_of({"ansan"});
  ASSERT_GE(cases.size(), 4u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    Golden g(one);
    for (std::size_t i = 0; i < g.config.value("n_cases", std::size_t(0)); ++i) {
      const Tokens ids = g.tokens(numbered("ids", i));
      const oracle::Anchors rule{oracle::marked_ids(ids, g.tokens(numbered("anchors", i)))};
      const Trace steps = rule.trace(Int(ids.size()));
      g.expect_mask(numbered("visible", i), rule.mask());
      g.expect_mask(numbered("visible", i), oracle::seen_in(steps));
      EXPECT_EQ(kept(steps), g.lists(numbered("kept_idx", i)));
    }
    if (g.has("ids")) {
      const oracle::Anchors rule{oracle::marked_ids(g.tokens("ids"), g.config["anchor_ids"]),
                                 g.config.value("anchor_sees_anchors", false)};
      if (g.has("o_heads")) expect_masked_attention(g, rule);
      if (g.has("support_any_head")) {  // where a trained model's attention, stored in bf16, is not zero
        g.expect_mask("support_any_head", rule.mask());
        g.expect_mask("support_per_head", rule.mask());
        EXPECT_LE(g.numbers("row_sum_error").at(0), 0x1p-8);
      }
    }
    g.expect_all_read();
  }
}

TEST(OracleGolden, Separators) {
  const auto cases = cases_of({"sepllm_fundamental"});
  ASSERT_GE(cases.size(), 4u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    Golden g(one);
    if (g.config.contains("cases")) {
      for (std::size_t i = 0; i < g.config["cases"].size(); ++i) {
        const auto& config = g.config["cases"][i];
        const Tokens ids = g.tokens(numbered("ids", i));
        const oracle::Separators rule{oracle::marked_ids(ids, config["separator_ids"]), config["a"], config["n"]};
        g.expect_mask(numbered("visible", i), rule.mask());
        g.expect_mask(numbered("visible", i), oracle::seen_in(rule.trace(Int(ids.size()))));
      }
    } else {
      expect_masked_attention(g, oracle::Separators{oracle::marked_ids(g.tokens("ids"), g.config["separator_ids"]),
                                                    g.size("initial_tokens"), g.size("neighbours")});
    }
    g.expect_all_read();
  }
}

TEST(OracleGolden, SeparatorStream) {
  const auto cases = cases_of({"sepllm_streaming"});
  ASSERT_GE(cases.size(), 6u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    Golden g(one);
    const Tokens ids = g.tokens("ids");
    const oracle::SeparatorStream rule{.initial = g.size("initial_tokens"),
                                       .slots = g.size("separator_capacity"),
                                       .local = g.size("local_window"),
                                       .capacity = g.size("cache_capacity"),
                                       .separator = oracle::marked_ids(ids, g.config["separator_ids"]),
                                       .accumulate = g.config["SEP_ACCUMULATION"],
                                       .bounded = g.config["USE_MAX_SEP_CACHE"]};
    const Trace steps = rule.trace(Int(ids.size()));
    EXPECT_EQ(lengths(kept(steps)), g.tokens("kept_len"));
    if (g.has("sample_steps")) {
      Lists samples;
      for (const Int step : g.tokens("sample_steps")) samples.push_back(steps.at(std::size_t(step)).kept);
      EXPECT_EQ(samples, g.lists("kept_idx"));
    } else {
      EXPECT_EQ(kept(steps), g.lists("kept_idx"));
    }
    if (g.has("o_heads")) expect_ranked_attention(g, steps);
    g.expect_all_read();
  }
}

TEST(OracleGolden, Sinks) {
  const auto cases = cases_of({"streaming_llm"});
  ASSERT_GE(cases.size(), 2u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.file);
    Golden g(one);
    if (g.config.contains("cases")) {
      for (std::size_t i = 0; i < g.config["cases"].size(); ++i) {
        const auto& config = g.config["cases"][i];
        const oracle::Sinks rule{config["start_size"], config["recent_size"]};
        EXPECT_EQ(kept(rule.trace(config["steps"], oracle::Sinks::Form::evict_after_step)),
                  g.lists(numbered("kept_idx", i)));
        for (std::size_t s = 0; s < config["space"].size(); ++s) {
          const Int cached = config["space"][s][0], coming = config["space"][s][1];
          EXPECT_EQ(rule.evicted_for_space(oracle::range(0, cached), coming),
                    g.tokens(numbered(numbered("evict_for_space", i), s)));
        }
      }
    } else {
      const oracle::Sinks rule{g.size("start_size"), g.size("recent_size")};
      const Trace steps = rule.trace(Int(g.tokens("ids").size()), oracle::Sinks::Form::evict_after_step);
      EXPECT_EQ(kept(steps), g.lists("kept_idx"));
      EXPECT_EQ(lengths(kept(steps)), g.tokens("kept_len"));
      expect_ranked_attention(g, steps);
    }
    g.expect_all_read();
  }
}

}  // namespace
}  // namespace heed_test::retention_golden_test
