// Verification on the kernel and the cache: a row of a step of 1 to 16 tokens has the bits of the decode step it stands
// for, whatever the drafts behind it hold, for every policy, codec and rule; and what was accepted goes on as a text.
#include <heed/codec/codecs.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "speculative/subjects.hpp"

namespace heed_test::verify_test {
namespace {

constexpr Index prompt = 11, tokens = 330;

/// Sizes beside the lengths of the steps: windows shorter and longer than a step and than a chunk.
struct RuleOf {
  const char* name;
  heed::AnyRule rule;
};
const std::vector<RuleOf>& rules() {
  static const std::vector<RuleOf> all{
      {"Causal", heed::Causal{}},
      {"SlidingWindow", heed::SlidingWindow{300}},
      {"ShortWindow", heed::SlidingWindow{7}},
      {"SinkWindow", heed::SinkWindow{4, 37}},
      {"Separators", heed::Separators{.initial = 3, .window = 40, .ids = {1, 2, 3}}},
      {"SeparatorStream",
       heed::SeparatorStream{.initial = 4, .separators = 20, .local = 60, .capacity = 290, .ids = {1, 2}}},
      {"TightStream", heed::SeparatorStream{.initial = 2, .separators = 4, .local = 6, .capacity = 17, .ids = {1, 2}}},
  };
  return all;
}

/// Steps of 1 to 16 tokens; from some token on the drafts are wrong, and their rows are poison.
template <class Codec, class P>
void expect_decode_bits(const Subject<P>& subject, const RuleOf& rule, heed::Positions positions) {
  SCOPED_TRACE(std::string(rule.name) + ", " + Codec::name);
  oracle::Random random(1);
  const Rows rows = random_rows(subject, tokens, random);
  auto straight = make_cache<Codec>(subject, {.positions = positions}, rule.rule);
  const Output want = decode_one_by_one(subject, straight, rows);
  for (const float x : want.out) ASSERT_TRUE(std::isfinite(x));

  auto cache = make_cache<Codec>(subject, {.positions = positions, .page_tokens = 16}, rule.rule);
  ASSERT_TRUE(decode(subject, cache, rows.part(0, prompt)) == want.rows(0, prompt, tokens));
  Index at = prompt;
  for (Index step_number = 0; at < tokens; ++step_number) {
    const Index count = std::min(1 + step_number % 16, tokens - at), right = 1 + random.below(count);
    Rows drafted = rows.part(at, right);
    if (right < count) drafted.append(random_rows(subject, count - right, random));
    for (Index wrong = right; wrong < count; ++wrong) drafted.poison(wrong);
    auto step = begin(cache, drafted);
    const Output got = attend(subject, drafted, step.keys(0));
    ASSERT_TRUE(got.rows(0, right, count) == want.rows(at, right, tokens))
        << "tokens " << at << " .. " << at + right << " of a step of " << count;
    std::vector<Index> accepted(static_cast<std::size_t>(right));
    std::iota(accepted.begin(), accepted.end(), Index{0});
    const heed::Status status = step.commit(accepted);
    ASSERT_TRUE(status.ok()) << status.message();
    at += right;
    ASSERT_EQ(cache.seen(), at);
  }
  ASSERT_EQ(cache.kept(), straight.kept());
}

template <class P>
void expect_decode_bits(const Subject<P>& subject) {
  for (const RuleOf& rule : rules()) {
    heed::Codecs::for_each([&]<class C>() { expect_decode_bits<C>(subject, rule, heed::Positions::absolute); });
  }
}
TEST(VerifyRow, IsTheDecodeStepGqa) { expect_decode_bits(gqa()); }
TEST(VerifyRow, IsTheDecodeStepMha) { expect_decode_bits(mha()); }
TEST(VerifyRow, IsTheDecodeStepMqa) { expect_decode_bits(mqa()); }
TEST(VerifyRow, IsTheDecodeStepMla) { expect_decode_bits(mla()); }
TEST(VerifyRow, IsTheDecodeStepMfa) { expect_decode_bits(mfa()); }
TEST(VerifyRow, IsTheDecodeStepMfaKr) { expect_decode_bits(mfa_kr()); }

/// With in-cache ranks, of policies that turn keys when they are read.
template <class P>
void expect_decode_bits_by_rank(const Subject<P>& subject) {
  for (const RuleOf& rule : rules()) {
    if (std::string(rule.name) == "Separators") continue;  // has no ranks
    expect_decode_bits<heed::F32>(subject, rule, heed::Positions::rank);
  }
}
TEST(VerifyRow, IsTheDecodeStepByRankMfaKr) { expect_decode_bits_by_rank(mfa_kr()); }
TEST(VerifyRow, IsTheDecodeStepByRankMla) { expect_decode_bits_by_rank(mla(true)); }

/// MLA's automatic form picks by size, but a verification absorbs as decoding does, from the first token on.
TEST(VerifyRow, OfMlaInAutomaticFormIsTheDecodeStepFromAnEmptyCache) {
  const Subject<heed::Mla> subject = mla();
  ASSERT_TRUE(heed::mla_expansion_is_cheaper(subject.policy, 16, 16)) << "or nothing is tested";
  oracle::Random random(2);
  for (Index count = 1; count <= 16; ++count) {
    const Rows rows = random_rows(subject, count, random);
    auto one_by_one = make_cache<heed::F32>(subject), at_once = make_cache<heed::F32>(subject);
    const Output want = decode_one_by_one(subject, one_by_one, rows);
    auto step = begin(at_once, rows);
    const auto keys = step.keys(0);
    for (const heed::MlaForm form : {heed::MlaForm::absorbed, heed::MlaForm::automatic}) {
      Output got = empty_output(subject, count);
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      const heed::Status status = heed::attend_mla<Backend>(subject.policy, form, rows.q, keys, keys.mask(), got.out,
                                                            workspace, executor, {}, got.lse);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_TRUE(got == want) << count;
    }
  }
}

}  // namespace
}  // namespace heed_test::verify_test
