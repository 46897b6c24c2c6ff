/// \file
/// Queries of committed keys: the float64 answer over what the rule lets them see, or a refusal. Never other numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <random>
#include <set>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>

#include "oracle/bound.hpp"
#include "oracle/random.hpp"
#include "retention/rule_model.hpp"

namespace heed_test::committed_keys_test {
namespace {

using heed::Index, heed::Positions, heed::Status, heed::StatusCode;
constexpr heed::Mqa plain{.num_heads = 2, .head_dim = 2, .scale = 0.8f};
const heed::Rope& rope() {
  static const heed::Rope made =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 1e4}));
  return made;
}
using Turning = heed::RotatedKeys<heed::Mqa>;
Turning turning() { return {.policy = plain, .rope = &rope()}; }

/// A pair turned by an angle of so many radians, as a head of two numbers is at a position.
void turn(double* pair, Index position) {
  const double c = std::cos(double(position)), s = std::sin(double(position)), x = pair[0], y = pair[1];
  pair[0] = x * c - y * s;
  pair[1] = x * s + y * c;
}

/// A text, the cache it is fed to, and what the rule says of both.
template <class P>
class Text {
 public:
  Text(const P& policy, const RuleCase& rule, const heed::CacheOptions& options, std::uint64_t seed)
      : cache(heed::value_or_throw(heed::KvCache<P, heed::F32>::create(policy, options, rule.rule))),
        model(rule, options.undo_tokens),
        policy_(policy),
        ranks_(options.positions == Positions::rank),
        undo_(options.undo_tokens),
        random_(seed) {}

  heed::KvCache<P, heed::F32> cache;
  RuleModel model;

  void append(const Tokens& ids, heed::Eviction eviction = heed::Eviction::now) {
    const Index count = Index(ids.size());
    auto step = heed::value_or_throw(cache.begin(std::vector<std::int32_t>(ids.begin(), ids.end())));
    const std::vector<float> k = random_.gaussians(count * 2), v = random_.gaussians(count * 2);
    k_.resize(std::size_t(cache.seen() * 2));
    v_.resize(std::size_t(cache.seen() * 2));
    k_.insert(k_.end(), k.begin(), k.end());
    v_.insert(v_.end(), v.begin(), v.end());
    heed::check(step.write(0, k, v));
    const bool later = eviction == heed::Eviction::later;
    model.append(ids, later);
    for (Index i = 0; i < count; ++i) {
      const Index position = step.first_logical_position() + i;
      gone_.erase(position);
      if (!ranks_) continue;
      EXPECT_EQ(step.positions(0)[std::size_t(i)], Index(seen(position).size()) - 1);
    }
    heed::check(step.commit(eviction));
    forgotten_ = std::max(forgotten_, cache.seen() - std::max(undo_, later ? count : 0));
  }
  void truncate(Index tokens) {
    heed::check(cache.truncate(tokens));
    model.truncate(tokens);
    gone_.erase(gone_.lower_bound(tokens), gone_.end());
    forgotten_ = std::min(forgotten_, tokens);
  }
  void remove(Index begin, Index end) {
    heed::check(cache.remove(begin, end));
    model.remove(begin, end);
    for (Index position = begin; position < end; ++position) gone_.insert(position);
  }
  /// Behind the last key.
  [[nodiscard]] Index end() const { return cache.kept() == 0 ? 0 : cache.position(cache.kept() - 1) + 1; }
  /// Queries from here on need nothing that was evicted.
  [[nodiscard]] Index forgotten() const { return forgotten_; }

  /// Asks for one query at a position; false if that is refused. What comes out must be right.
  [[nodiscard]] bool ask(Index position) { return ask(position, 1, {position}); }
  /// Asks for the last `count` committed ones.
  [[nodiscard]] bool ask_last(Index count) { return ask(end() - count, count, {}); }

 private:
  [[nodiscard]] bool ask(Index first, Index count, const std::vector<Index>& positions) {
    const std::vector<float> q = random_.gaussians(count * 4);
    std::vector<float> turned = q, out(q.size(), NAN), lse(q.size() / 2, NAN);
    std::vector<double> exact(q.begin(), q.end());
    for (Index i = 0; ranks_ && i < 2 * count; ++i) {
      const Index position = first + i / 2;
      double* pair = exact.data() + 2 * i;
      turn(pair, Index(seen(position).size()) - (position < cache.seen() ? 1 : 0));
      std::copy_n(pair, 2, turned.begin() + 2 * i);
    }
    const Status status = heed::attend<heed::Scalar>(policy_, turned, cache.keys(0), heed::MaskRef(), out, workspace_,
                                                     serial_, {}, lse, positions);
    if (!status.ok()) {
      const bool later = status.code() == StatusCode::invalid_argument && first > cache.seen();
      EXPECT_TRUE(later || status.code() == StatusCode::wrong_state) << status.message();
      EXPECT_TRUE(std::isnan(out[0]));
      return false;
    }
    for (Index i = 0; i < count; ++i) {
      const auto part = [i](auto& all, Index width) {
        return std::span(all).subspan(std::size_t(i * width), std::size_t(width));
      };
      const auto pairs = part(exact, 4);
      compare(first + i, {pairs.begin(), pairs.end()}, part(out, 4), part(lse, 2));
    }
    return true;
  }
  void compare(Index position, const std::vector<double>& exact, std::span<const float> out,
               std::span<const float> lse) {
    const Tokens keys = seen(position);
    oracle::Problem problem{.heads = 2, .kv_heads = 1, .key_dim = 2, .value_dim = 2, .scale = plain.scale, .q = exact};
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto row = std::size_t(2 * keys[i]);
      double pair[2] = {k_[row], k_[row + 1]};
      if (ranks_) turn(pair, Index(i));
      problem.k.insert(problem.k.end(), {pair[0], pair[1]});
      problem.v.insert(problem.v.end(), {v_[row], v_[row + 1]});
    }
    problem.visible = [](Int, Int) { return true; };
    const oracle::Answer answer = oracle::attention(problem);
    EXPECT_LE(oracle::worst_output(out, answer), 1) << "query " << position << " of " << cache.seen();
    EXPECT_LE(oracle::worst_lse(lse, answer), 1);
  }
  /// Tokens of the text so far that the rule lets a query see, without removed ones. What comes later is plain.
  [[nodiscard]] Tokens seen(Index position) {
    RuleModel longer = model;
    while (longer.seen() <= position) longer.append({0});
    return oracle::where(longer.seen_by(position),
                         [&](Int key) { return key < model.seen() && gone_.count(Index(key)) == 0; });
  }

  P policy_;
  bool ranks_;
  Index undo_;
  Index forgotten_ = 0;
  std::set<Index> gone_;
  oracle::Random random_;
  std::vector<float> k_, v_;
  heed::Workspace workspace_;
  heed::SerialExecutor serial_;
};

Index pick(std::mt19937_64& random, Index least, Index most) {
  return least + Index(random() % std::uint64_t(most - least + 1));
}

/// Any history, and after each move a query at every position there may be. Returns how many were answered.
template <class P>
Index walk(const P& policy, const std::string& kind, Positions positions, Index undo, std::mt19937_64& random) {
  const RuleCase rule = random_case(kind, random);
  Text<P> text(policy, rule, {.positions = positions, .undo_tokens = undo, .page_tokens = pick(random, 1, 9)},
               random());
  const bool history = rule.rule.has_history(), staged = history || positions == Positions::rank;
  Index answered = 0;
  for (int move = 0; move < 25; ++move) {
    Tokens ids(std::size_t(pick(random, 1, 6)));
    for (Int& id : ids) id = pick(random, 0, 6);
    const Index before = text.cache.seen();
    switch (pick(random, 0, 6)) {
      case 0: text.truncate(pick(random, text.cache.rollback_floor(), before)); break;
      case 1:
        if (!history) {
          const Index begin = pick(random, std::max<Index>(0, before - 20), before);
          text.remove(begin, std::min(before, begin + pick(random, 1, 4)));
        }
        break;
      case 2: text.append(ids, heed::Eviction::later); break;
      default: text.append(ids);
    }
    const Index seen = text.cache.seen();
    const Index most = std::min<Index>(seen, 12);
    for (const Index count : {most, most / 2, Index{1}}) {
      if (count > 0 && count <= text.end()) answered += text.ask_last(count);
      if (::testing::Test::HasFailure()) return 0;
    }
    for (Index position = std::max<Index>(0, seen - 30); position <= seen + 2; ++position) {
      const bool ok = text.ask(position);
      if (::testing::Test::HasFailure()) return 0;
      answered += ok;
      const bool certain = !staged && (kind == "full" || (position >= text.forgotten() && position <= seen));
      if (staged || certain) {
        EXPECT_EQ(ok, certain) << "query " << position << " of " << seen;
      }
    }
  }
  return answered;
}

TEST(CommittedKeys, AnswerRightOrNotAtAll) {
  std::mt19937_64 random(5);
  for (const char* kind : rule_kinds) {
    for (const Index undo : {0, 3, 40}) {
      SCOPED_TRACE(std::string(kind) + ", undo " + std::to_string(undo));
      for (int repeat = 0; repeat < 3; ++repeat) {
        const bool history = random_case(kind, random).rule.has_history();
        const Index answered = walk(plain, kind, Positions::absolute, undo, random);
        ASSERT_FALSE(HasFailure());
        ASSERT_EQ(answered > 0, !history);
        if (!random_case(kind, random).rule.has_ranks()) continue;
        EXPECT_EQ(walk(turning(), kind, Positions::rank, undo, random), 0);
        ASSERT_FALSE(HasFailure()) << "ranks";
      }
    }
  }
}

}  // namespace
}  // namespace heed_test::committed_keys_test
