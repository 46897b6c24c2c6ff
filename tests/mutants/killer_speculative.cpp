// Kills mutants of speculative decoding: small trees, acceptance by hand, a toy model in the loop, one MTP slot.
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/layer/mtp.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/separators.hpp>
#include <heed/simd/scalar.hpp>
#include <heed/speculative/decode.hpp>
#include <heed/speculative/tree_mask.hpp>
#include <heed/speculative/tree_paths.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::DraftTree;
using heed::Index;
using heed::Token;
using killer::expect;
using List = std::vector<Index>;
using Tokens = std::vector<Token>;
using Weights = std::vector<double>;

void trees() {
  //     0        nodes 1 and 2 are guesses for one position, 3 follows 1, 4 follows 2
  //    1 2
  //    3 4
  const DraftTree tree = heed::value_or_throw(DraftTree::create(List{-1, 0, 0, 1, 2}));
  expect(tree.positions(7) == List{7, 8, 8, 9, 9}, "tree: depth", "positions");
  expect(tree.path(4) == List{0, 2, 4} && tree.ancestor(3, 1) == 1, "tree: path", "path");
  const DraftTree chain = heed::value_or_throw(DraftTree::chain(20));
  for (Index depth = 0; depth < 20; ++depth) expect(chain.ancestor(19, depth) == depth, "tree: path", "of a chain");
  const auto mask = tree.mask(10);
  const bool own = mask.visible(13, 11) && !mask.visible(13, 12) && mask.visible(14, 12) && !mask.visible(14, 13);
  expect(own && mask.visible(12, 9), "tree: mask", "a node sees its path");
  expect(mask.coverage({10, 15}, {10, 15}) == heed::Coverage::partial, "tree: mask", "coverage of the step");
  expect(mask.coverage({0, 10}, {8, 12}) == heed::Coverage::partial, "tree: mask", "coverage for earlier queries");
  List order;
  const auto twice = DraftTree::from_links(List{1, 2, -1, -1}, List{-1, 2, -1, -1}, order);
  expect(!twice.ok(), "tree: links", "a node with two parents");
  const std::vector<std::uint8_t> packed{0b10010001, 0b00000001};
  expect(*heed::suffix_bits(packed, 3) == std::vector<std::uint64_t>{1, 2, 6}, "tree: packed", "bits");

  // Rows are their own positions.
  auto cache = heed::value_or_throw(
      heed::KvCache<heed::Mqa, heed::F32>::create({.num_heads = 1, .head_dim = 1, .scale = 1}, {.page_tokens = 2}));
  const auto begin = [&](Index count) {
    auto opened = cache.begin(heed::NumTokens(count));
    std::vector<float> rows;
    for (Index i = 0; i < count; ++i) rows.push_back(float(cache.seen() + i));
    heed::check(opened->write(0, rows, rows));
    return opened;
  };
  auto first = begin(3);
  heed::check(first->commit());
  auto step = begin(5);
  const auto view = step->keys(0);
  const auto tree_paths = heed::value_or_throw(heed::TreePaths::create(view, tree));
  const auto paths = tree_paths.keys(view);
  List seen;
  for (Index key = 0; key < paths.stage_size(4);) {
    const heed::RowRun run = paths.stage_row_run(4, 0, 0, key, paths.stage_size(4) - key);
    expect(run.rows > 0, "tree: paths", "a run has rows");
    if (run.rows < 1) break;
    for (Index i = 0; i < run.rows; ++i, ++key) {
      float x = 0;
      std::memcpy(&x, run.data + i * run.stride_bytes, sizeof x);
      seen.push_back(Index(x));
    }
  }
  expect(seen == List{0, 1, 2, 3, 5, 7}, "tree: paths", "keys of a node");
}

using Cache = heed::KvCache<heed::Mqa, heed::F32>;
constexpr heed::Mqa one_number{.num_heads = 1, .head_dim = 1, .scale = 1};

/// Opens a step of tokens with these ids: keys are 0, values count from 0.
Cache::Step open(Cache& cache, const std::vector<std::int32_t>& ids) {
  auto opened = heed::value_or_throw(cache.begin(ids));
  std::vector<float> values;
  for (std::size_t i = 0; i < ids.size(); ++i) values.push_back(float(cache.seen() + Index(i)));
  heed::check(opened.write(0, std::vector<float>(ids.size()), values));
  return opened;
}
Cache after(heed::AnyRule rule, const std::vector<std::int32_t>& ids) {
  Cache cache = heed::value_or_throw(Cache::create(one_number, {}, std::move(rule)));
  heed::check(open(cache, ids).commit());
  return cache;
}
template <class Keys>
heed::Status read(const Keys& keys, heed::MaskRef mask, std::vector<float>& out,
                  const heed::AttendOptions& options = {}, std::span<const Index> query_positions = {},
                  std::span<float> lse = {}) {
  const std::vector<float> q(out.size());
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  return heed::attend<heed::Scalar>(one_number, q, keys, mask, out, workspace, executor, options, lse, query_positions);
}

heed::TreeMask mask_of(const Cache::Keys& keys, const DraftTree& tree) {
  return heed::value_or_throw(heed::TreeMask::create(keys, tree));
}

/// Trees meet ALiBi, rules, and what they do not fit.
void tree_rules() {
  const DraftTree tree = heed::value_or_throw(DraftTree::create(List{-1, 0, 0, 1, 2}));
  const heed::SuffixMask suffix = tree.mask(3);
  expect(suffix.text_position(7) == 5 && suffix.text_position(5) == 4 && suffix.text_position(2) == 2, "tree: text",
         "depths");

  // Node 4 stands at 5 and sees values 0, 1, 2, 3, 5, 7 at distances 5 ... 0.
  auto full = after(heed::Causal{}, {0, 0, 0});
  auto step = open(full, {0, 0, 0, 0, 0});
  const std::array<float, 1> slope{1};
  const heed::AttendOptions alibi{.alibi_slopes = slope};
  double sum = 0, weights = 0;
  const std::array<double, 6> values{0, 1, 2, 3, 5, 7};
  for (int i = 0; i < 6; ++i) {
    sum += values[std::size_t(i)] * std::exp(i - 5.0);
    weights += std::exp(i - 5.0);
  }
  std::vector<float> out(5), lse(5);
  heed::check(read(step.keys(0), suffix, out, alibi, {}, lse));
  expect(std::abs(double(out[4]) - sum / weights) < 1e-5, "tree: ALiBi", "keys on a path");
  expect(std::abs(double(lse[4]) - std::log(weights)) < 1e-5, "tree: ALiBi", "the query's own place");

  auto window = after(heed::SlidingWindow{1}, {0, 0, 0});
  auto window_step = open(window, {0, 0, 0, 0, 0});
  const heed::TreeMask of_window = mask_of(window_step.keys(0), tree), of_full = mask_of(step.keys(0), tree);
  expect(of_window.visible(7, 7) && !of_window.visible(7, 5), "tree: window", "begins at the node");

  // Node 1 is a separator, node 2 none: node 4 sees itself alone, node 3 sees node 1 too.
  auto marked = after(heed::Separators{.window = 1, .ids = {9}}, {0, 0, 0});
  auto marked_step = open(marked, {0, 9, 0, 0, 0});
  const auto marked_paths = heed::value_or_throw(heed::TreePaths::create(marked_step.keys(0), tree));
  heed::check(read(marked_paths.keys(marked_step.keys(0)), {}, out));
  expect(out[4] == 7 && out[3] == 5, "tree: landmarks", "of the path");
  // Positions 3 and 5 are on the grid: node 0, and nodes 3 and 4 by their depth. Node 4 sees 3 and itself.
  auto grid = after(heed::FixedGrid{.window = 1, .distance = 2, .first = 1}, {0, 0, 0});
  auto grid_step = open(grid, {0, 0, 0, 0, 0});
  const heed::TreeMask of_grid = mask_of(grid_step.keys(0), tree);
  expect(of_grid.visible(7, 3) && !of_grid.visible(7, 5), "tree: roles", "by position in the text");

  const auto refused = [&](const heed::Status& status, const char* what) {
    expect(!status.ok(), "tree: refused", what);
  };
  const heed::SuffixMask early = tree.mask(2);
  refused(read(window_step.keys(0), suffix, out), "a rule the mask does not know");
  refused(read(step.keys(0), early, out), "another prefix");
  refused(read(step.keys(0), suffix, out, {}, tree.positions(3)), "depths as query positions");
  refused(read(step.keys(0), of_window, out), "a mask of another rule");
  auto twin = after(heed::Causal{}, {0, 0, 0});
  auto twin_step = open(twin, {0, 0, 0, 0, 0});
  const heed::TreeMask of_twin = mask_of(twin_step.keys(0), tree);
  refused(read(step.keys(0), of_twin, out), "a mask of another cache");
  step.abort();
  auto next = open(full, {0, 0, 0, 0, 0});
  refused(read(next.keys(0), of_full, out), "a mask of the step before");
  const heed::TreeMask of_next = mask_of(next.keys(0), tree);
  const DraftTree large = heed::value_or_throw(DraftTree::chain(6));
  refused(heed::TreePaths::create(next.keys(0), large).status(), "more nodes than tokens");
  const DraftTree none = heed::value_or_throw(DraftTree::create({}));
  refused(heed::TreePaths::create(next.keys(0), none).status(), "no nodes");
  heed::check(read(next.keys(0), of_next, out));
  expect(next.positions(0).size() == 5, "tree: text", "positions of the step");
  refused(read(next.keys(0), of_next, out), "positions of the slots");
}

void acceptance() {
  const float nan = std::nanf(""), infinity = HUGE_VALF;
  expect(*heed::greedy_token(std::vector<float>{1, 2, 3, 3}) == 2, "accept: greedy", "first of the largest");
  expect(!heed::greedy_token(std::vector<float>{1, nan}).ok(), "accept: logits", "NaN");
  expect(!heed::greedy_token(std::vector<float>{1, infinity}).ok(), "accept: logits", "infinity");
  expect(!heed::greedy_token(std::vector<float>{-infinity, -infinity}).ok(), "accept: logits", "nothing to choose");
  const auto chain = heed::value_or_throw(heed::accept_greedy(Tokens{1, 2, 3}, Tokens{1, 2, 9, 4}));
  expect(chain.accepted == 2 && chain.bonus == 9, "accept: chain", "bonus");
  const DraftTree tree = heed::value_or_throw(DraftTree::create(List{-1, 0, 0, 1, 2, 4}));
  const auto path = heed::value_or_throw(heed::accept_greedy(tree, Tokens{0, 5, 6, 7, 8, 9}, Tokens{6, 7, 8, 0, 1, 2}));
  const Tokens seven(7);
  expect(!heed::accept_greedy(Tokens{1}, seven).ok() && !heed::accept_greedy(tree, seven, seven).ok(), "accept: sizes",
         "more targets than drafts or nodes");
  expect(path == List{0, 2, 4}, "accept: tree", "path");
  expect(*heed::sample(Weights{1, 0, 3}, 0.25) == 2 && *heed::sample(Weights{1, 0, 3}, 0.249) == 0, "accept: sample",
         "pick");
  const auto zero = [] { return 0.0; };
  const auto excluded = heed::accept_sampled(Tokens{0}, Weights{1, 0, 0}, Weights{0, 0.5, 0.5, 1, 0, 0}, 3, zero);
  expect(excluded->accepted == 0, "accept: excluded", "a token without probability");
  // Rejected, then from what the target has more of than the draft: token 2 alone.
  const Weights target{0.2, 0.4, 0.4, 1, 0, 0}, draft{0.6, 0.4, 0};
  const auto rest = heed::accept_sampled(Tokens{0}, draft, target, 3, [] { return 0.5; });
  expect(rest->accepted == 0 && rest->bonus == 2, "accept: rest", "what is left of the target");
  const auto kept = heed::accept_sampled(Tokens{0}, draft, target, 3, [] { return 0.3; });
  expect(kept->accepted == 1 && kept->bonus == 0, "accept: rest", "the last row");
  const auto refused = [&](Token token, const Weights& rows) {
    return !heed::accept_sampled(Tokens{token}, rows, target, 3, zero).ok();
  };
  expect(refused(0, {0.6, double(nan), 0.4}) && refused(0, {1.4, -0.4, 0}), "accept: weights", "no weights");
  expect(refused(0, {0.5, 0.25, 0}), "accept: probabilities", "a sum that is not 1");
  expect(refused(2, draft), "accept: drawn", "a draft that cannot have been drawn");
}

/// After token t comes 2 t + 1 modulo 7; drafts are right but for the last of a step.
struct Toy {
  [[nodiscard]] Index vocab_size() const { return 7; }
  [[nodiscard]] heed::Result<std::span<const Token>> draft(Token token, Index count) {
    guess.clear();
    for (Index i = 0; i < count; ++i) guess.push_back(token = Token((2 * token + 1) % 7));
    if (count > 1) guess.back() = Token((guess.back() + 1) % 7);
    return std::span<const Token>(guess);
  }
  [[nodiscard]] heed::Result<std::span<const float>> verify(std::span<const Token> tokens) {
    step.assign(tokens.begin(), tokens.end());
    logits.assign(tokens.size() * 7, 0.0f);
    for (std::size_t i = 0; i < tokens.size(); ++i) logits[i * 7 + std::size_t((2 * tokens[i] + 1) % 7)] = 1;
    return std::span<const float>(logits);
  }
  [[nodiscard]] heed::Status commit(Index count) {
    text.insert(text.end(), step.begin(), step.begin() + count);
    step.clear();
    return {};
  }
  [[nodiscard]] std::span<const double> draft_probabilities() const { return {}; }
  Tokens text, guess, step;
  std::vector<float> logits;
};

void loop() {
  Toy model;
  Tokens out;
  const auto made = heed::speculate_greedy(model, 2, 8, 3, [&](Token token) { out.push_back(token); });
  Tokens want{2};  // with the token before
  for (int i = 0; i < 8; ++i) want.push_back(Token((2 * want.back() + 1) % 7));
  expect(made.ok() && out == Tokens(want.begin() + 1, want.end()), "loop: text", "tokens");
  expect(model.text == Tokens(want.begin(), want.end() - 1), "loop: text", "committed");
  expect(made.ok() && made->tokens == 8 && made->steps == 3, "loop: counts", "steps");
  expect(made.ok() && made->drafted == List{3, 2, 2} && made->accepted == List{3, 2, 0}, "loop: counts", "drafts");

  // After 2 come 5 and 4, both drafted right: stopped at the first, the second is neither out nor committed.
  Toy stopped;
  Tokens one;
  const auto until = heed::speculate_greedy(stopped, 2, 8, 3, [&](Token token) {
    one.push_back(token);
    return false;
  });
  expect(until.ok() && one == Tokens{5} && stopped.text == Tokens{2}, "loop: stop", "at a draft");
  expect(until.ok() && until->tokens == 1 && until->steps == 1 && until->accepted == List{1, 0, 0} && until->stopped,
         "loop: stop", "counts");

  struct Silent : Toy {
    [[nodiscard]] heed::Result<std::span<const float>> verify(std::span<const Token> tokens) {
      step.assign(tokens.begin(), tokens.end());
      logits.clear();
      return std::span<const float>(logits);
    }
  } silent;
  const auto none = heed::speculate_greedy(silent, 2, 8, 3, [](Token) {});
  expect(!none.ok() && silent.step.empty() && silent.text.empty(), "loop: closed", "a step of no use");

  // Half as likely at temperature 1 is a quarter at 1/2: 0.8 and 0.2 of two tokens, and 0.7 picks the first.
  struct Two : Toy {
    [[nodiscard]] Index vocab_size() const { return 2; }
    [[nodiscard]] heed::Result<std::span<const float>> verify(std::span<const Token> tokens) {
      step.assign(tokens.begin(), tokens.end());
      logits = {0, -std::log(2.0f)};
      return std::span<const float>(logits);
    }
  } two;
  out.clear();
  const auto sampled = heed::speculate_sampled(
      two, 0, 1, 0, 0.5, [] { return 0.7; }, [&](Token token) { out.push_back(token); });
  expect(sampled.ok() && out == Tokens{0}, "loop: temperature", "sharper below 1");
}

void mtp() {
  // x = 2 enorm(e) - hnorm(h) of one number each, which a norm makes its gain.
  const std::array<float, 1> enorm{3}, hnorm{5}, head{7};
  const std::array<float, 2> eh{2, -1};
  const auto module =
      heed::value_or_throw(heed::MtpModule::create({.hidden_size = 1, .rms_norm_eps = 0, .zero_first_embedding = true},
                                                   {{enorm, 1, 1}, {hnorm, 1, 1}, {eh, 1, 2}, {head, 1, 1}}));
  const std::array<float, 3> e{0.5f, 4, 1}, h{2, 0.25f, 1};
  const List positions{3, 0, 1};
  std::array<float, 3> x{}, normed{};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(module.combine<heed::Scalar>(e, h, positions, x, workspace, executor));
  expect(x[0] == 1 && x[2] == 1, "mtp: combine", "embedding first");
  expect(x[1] == -5, "mtp: zero", "the embedding of position 0");
  heed::check(module.finish(h, normed));
  expect(normed[0] == 7, "mtp: norm", "of the head");
}

}  // namespace

int main() {
  trees();
  tree_rules();
  acceptance();
  loop();
  mtp();
  return killer::failures == 0 ? 0 : 1;
}
