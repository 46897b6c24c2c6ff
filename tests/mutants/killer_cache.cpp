// Kills mutants of the cache and of retention rules: small histories, and what is left of them.
#include <cmath>
#include <string>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::Index;
using killer::expect;
using List = std::vector<Index>;
using Ids = std::vector<std::int32_t>;

Index held = 0;
void* take(void*, std::size_t bytes, std::size_t alignment) {
  held += Index(bytes);
  return ::operator new (bytes, std::align_val_t{alignment});
}
void give(void*, void* block, std::size_t bytes, std::size_t alignment) {
  held -= Index(bytes);
  ::operator delete (block, std::align_val_t{alignment});
}

void cache() {
  using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 5, .v_head_dim = 8, .scale = 1};
  auto made = Cache::create(
      policy, {.layers = 2, .capacity = 3, .max_tokens = 40, .page_tokens = 4, .memory = {nullptr, take, give}});
  if (!made.ok()) return expect(false, "cache", "create");
  Cache& cache = *made;
  const auto write = [](Cache::Step& step, Index layer, float base) {
    std::vector<float> k, v;
    for (Index i = 0; i < step.tokens() * 2 * 5; ++i) k.push_back(base + float(i));
    for (Index i = 0; i < step.tokens() * 2 * 8; ++i) v.push_back(-base - float(i));
    return step.write(layer, k, v).ok();
  };
  const auto number = [&](Index layer, int stream, Index head, Index key, Index d) {
    float x = 0;
    const heed::RowRun run = cache.keys(layer).row_run(stream, head, key, 1);
    heed::Bf16::decode(run.data + d * 2, 1, &x);
    return x;
  };
  {
    auto step = cache.begin(heed::NumTokens(2));
    expect(step.ok() && !(*step).commit().ok(), "cache", "commit without a write is refused");
    expect(write(*step, 0, 1) && !(*step).commit().ok(), "cache", "commit needs every layer");
    expect(write(*step, 1, 101) && (*step).commit().ok(), "cache", "commit");
  }
  {
    auto step = cache.begin(heed::NumTokens(1));
    expect(!(*step).commit().ok(), "cache", "an earlier step's writes do not count");
    expect(!cache.truncate(0).ok(), "cache", "no truncate while a step is open");
  }
  expect(cache.size() == 2, "cache", "an uncommitted step leaves nothing");
  expect(!cache.begin(heed::NumTokens(39)).ok() && cache.begin(heed::NumTokens(38)).ok(), "cache", "max_tokens");
  {
    auto step = cache.begin(heed::NumTokens(9));  // grows
    expect(step.ok() && (*step).first_logical_position() == 2 && write(*step, 0, 50) && write(*step, 1, 150), "cache",
           "write");
    expect((*step).keys(1).size() == 11 && cache.keys(1).size() == 2, "cache", "a step's view has the new tokens");
    expect((*step).commit().ok() && cache.size() == 11, "cache", "commit");
  }
  const bool old = number(0, 0, 0, 0, 0) == 1 && number(1, 0, 1, 1, 4) == 120 && number(0, 1, 1, 1, 7) == -32;
  expect(old && number(1, 0, 1, 2, 3) == 158, "cache", "rows survive growth");
  expect(number(1, 0, 1, 10, 3) == 150 + (8 * 2 + 1) * 5 + 3, "cache", "rows of the next page");
  expect(cache.truncate(2).ok() && cache.seen() == 2 && cache.size() == 2 && cache.keys(0).size() == 2, "cache",
         "truncate forgets");
  expect(!cache.truncate(3).ok(), "cache", "truncate refuses what was never seen");
  const heed::CacheBytes bytes = cache.bytes();
  // A bf16 row of 5 takes 10 bytes and one of 8 takes 16; both are stored in 16.
  expect(bytes.live == 2 * 2 * 2 * (16 + 16), "cache", "live bytes");
  expect(bytes.allocated == held && bytes.peak >= held, "cache", "allocated and peak bytes");
  expect(cache.row_bytes_per_token() == 2 * 2 * (10 + 16), "cache", "bytes per token");
}

// --- rows that are their own positions ----------------------------------------------------------------------------------

using Tracked = heed::KvCache<heed::Mqa, heed::F32>;

Tracked make(const heed::AnyRule& rule, Index undo = 0) {
  return heed::value_or_throw(
      Tracked::create({.num_heads = 1, .head_dim = 1, .scale = 1}, {.undo_tokens = undo, .page_tokens = 2}, rule));
}
Tracked::Step begin(Tracked& cache, const Ids& ids) {
  auto step = heed::value_or_throw(cache.begin(ids));
  for (Index layer = 0; layer < cache.layers(); ++layer) {
    std::vector<float> rows;
    for (Index i = 0; i < step.tokens(); ++i)
      rows.push_back(float(1 + 100 * layer + step.first_logical_position() + i));  // 0 is what fresh pages hold
    heed::check(step.write(layer, rows, rows));
  }
  return step;
}
void append(Tracked& cache, const Ids& ids) {
  auto step = begin(cache, ids);
  heed::check(step.commit());
}
List rows(const Tracked& cache, Index layer = 0) {
  List numbers;
  const auto keys = cache.keys(layer);
  for (Index key = 0; key < keys.size(); ++key) {
    float x = 0;
    heed::F32::decode(keys.row_run(1, 0, key, 1).data, 1, &x);
    numbers.push_back(Index(x) - 1);
  }
  return numbers;
}
List kept(const Tracked& cache) {
  List positions;
  for (Index key = 0; key < cache.kept(); ++key) positions.push_back(cache.position(key));
  return positions;
}
/// What queries of one step for all tokens see, summed over them.
Index seen(const heed::AnyRule& rule, const Ids& ids) {
  Tracked cache = make(rule);
  const auto step = begin(cache, ids);
  const auto mask = step.keys(0).mask();
  Index total = 0;
  for (Index query = 0; query < Index(ids.size()); ++query) {
    for (Index key = 0; key <= query; ++key) total += mask.visible(query, key);
  }
  return total;
}
Ids plain(Index tokens) { return Ids(std::size_t(tokens), 0); }

void eviction() {
  Tracked window = make(heed::SlidingWindow{8});
  for (int i = 0; i < 400; ++i) append(window, {0});
  expect(kept(window) == List{393, 394, 395, 396, 397, 398, 399}, "evict", "kept");
  expect(window.rollback_floor() == 400, "evict", "rollback floor");
  expect(window.bytes().allocated_rows < 20 * heed::PagePool::page_bytes(128), "evict", "memory is bounded");
  Tracked slack = make(heed::SlidingWindow{8}, 5);
  append(slack, plain(40));
  expect(slack.rollback_floor() == 35 && slack.kept() == 12, "evict", "slack");
  Tracked marked = make(heed::Separators{1, 4, {1}});
  append(marked, {0, 0, 1, 0, 0, 1, 0, 0, 0, 0});
  expect(kept(marked) == List{0, 2, 5, 7, 8, 9} && rows(marked) == kept(marked), "evict", "rows of landmarks");
}

void forks() {
  Tracked cache = make({});
  append(cache, {0, 0, 0});
  Tracked fork = heed::value_or_throw(cache.fork());
  {
    auto step = heed::value_or_throw(fork.begin(heed::NumTokens(1)));
    const float other[] = {78};
    heed::check(step.write(0, other, other));
    heed::check(step.commit());
  }
  append(cache, {0});
  expect(rows(cache) == List{0, 1, 2, 3}, "fork", "rows of the other");
  expect(rows(fork) == List{0, 1, 2, 77}, "fork", "rows of its own");
  const std::vector<heed::LayerRule> groups{{heed::Causal{}, {1, 0}}};
  Tracked layers =
      heed::value_or_throw(Tracked::create({.num_heads = 1, .head_dim = 1, .scale = 1}, {.layers = 2}, groups));
  append(layers, {0, 0});
  const Tracked same = heed::value_or_throw(layers.fork());
  expect(rows(same, 1) == List{100, 101}, "fork", "layers in any order");
}

void compaction() {
  Tracked cache = make({});
  append(cache, plain(8));
  heed::check(cache.compact(List{0, 2, 3, 7}).status());
  expect(kept(cache) == List{0, 2, 3, 7} && rows(cache) == kept(cache), "compact", "rows");
  append(cache, {0, 0});
  heed::check(cache.compact(List{0, 3, 8}).status());
  expect(kept(cache) == List{0, 3, 8} && rows(cache) == kept(cache), "compact", "rows");
  Tracked endless = make(heed::SlidingWindow{heed::unlimited});
  append(endless, plain(8));
  heed::check(endless.remove(3, 4));
  expect(endless.keys(0).slots() == 7 && rows(endless) == kept(endless), "remove", "no hole where nothing is evicted");
}

/// What the last query of a step attends to, if every key weighs the same: the mean of the values.
double mean_of(const Tracked& cache, Tracked::Step& step) {
  const std::vector<float> q(1, 0.0f);
  std::vector<float> out(1, -1.0f);
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  heed::check(heed::attend<heed::Scalar>(cache.policy(), q, step.keys(0), out, workspace, serial));
  return double(out[0]);
}

void removal() {
  Tracked cache = make(heed::SlidingWindow{8});
  append(cache, plain(20));
  heed::check(cache.remove(15, 18));
  expect(kept(cache) == List{13, 14, 18, 19}, "remove", "kept");
  {
    auto step = begin(cache, {0});
    expect(std::abs(mean_of(cache, step) - (1 + (13 + 14 + 18 + 19 + 20) / 5.0)) < 1e-4, "remove", "hidden");
    heed::check(step.commit());
  }
  append(cache, plain(3));
  expect(kept(cache) == List{18, 19, 20, 21, 22, 23} && rows(cache) == kept(cache), "remove", "kept");
  append(cache, plain(9));
  expect(cache.kept() == 7, "remove", "kept");
  heed::check(cache.remove(31, 33));
  if (!cache.resume_at(31).ok()) return expect(false, "resume", "behind the last token");
  auto step = begin(cache, {0});
  expect(std::abs(mean_of(cache, step) - (1 + (26 + 27 + 28 + 29 + 30 + 31) / 6.0)) < 1e-4, "resume", "seen");
}

void ranks() {
  const heed::Rope rope =
      heed::value_or_throw(heed::Rope::create({.head_dim = 2, .layout = heed::RopeLayout::half_split, .theta = 100}));
  const heed::RotatedKeys<heed::Mqa> policy{{.num_heads = 1, .head_dim = 2, .scale = 1}, &rope};
  auto cache = heed::value_or_throw(heed::KvCache<heed::RotatedKeys<heed::Mqa>, heed::F32>::create(
      policy, {.positions = heed::Positions::rank}, heed::SlidingWindow{8}));
  const std::vector<float> row(40, 0.0f);
  auto first = heed::value_or_throw(cache.begin(heed::NumTokens(20)));
  heed::check(first.write(0, row, row));
  heed::check(first.commit());
  heed::check(cache.remove(15, 18));
  {
    const auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
    expect(step.positions(0)[0] == 4, "remove", "ranks");
  }
  heed::check(cache.remove(18, 20));
  if (!cache.resume_at(15).ok()) return expect(false, "resume", "behind the last token");
  const auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
  expect(step.positions(0)[0] == 2, "resume", "ranks");
}

void acceptance() {
  Tracked cache = make({});
  append(cache, {0});
  auto step = begin(cache, {5, 6, 7, 8});
  heed::check(step.commit(List{1, 3}));
  expect(rows(cache) == List{0, 2, 4} && kept(cache) == List{0, 1, 2}, "accept", "rows");
}

void rules() {
  Ids segments = plain(18);
  for (const std::size_t anchor : {5u, 11u, 17u}) segments[anchor] = 1;
  expect(seen(heed::Anchors{{1}}, segments) == 78, "anchors", "seen");
  // Of ten queries the window of 3 shows 1 2 3 3 ...; token 0 is initial, token 4 a landmark.
  Ids marked = plain(10);
  marked[4] = 1;
  expect(seen(heed::Separators{1, 3, {1}}, marked) == 27 + 7 + 3, "separators", "seen");
  expect(seen(heed::FixedGrid{0, 3, 4, 1}, plain(10)) == 27 + 6 + 2, "grid", "seen");
  expect(seen(heed::SinkWindow{1, 3}, plain(10)) == 27 + 7, "sinks", "seen");
  expect(seen(heed::SinkWindow{1, 3, heed::SinkForm::evict_after_step}, plain(10)) == 34 + 6, "sinks", "seen");
}

void streams() {
  const std::string text = "AB.CDE\nFGHI\nJ,KLMN.OPQ";
  Tracked cache =
      make(heed::SeparatorStream{.initial = 2, .separators = 2, .local = 4, .capacity = 11, .ids = {'.', ',', '\n'}});
  for (std::size_t t = 0; t < 20; ++t) {
    append(cache, {text[t]});
    if (t == 10) expect(cache.kept() == 11, "stream", "kept");
    if (t == 11) expect(kept(cache) == List{0, 1, 2, 6, 8, 9, 10, 11}, "stream", "kept");
    if (t == 12) expect(cache.rollback_floor() == 12, "stream", "rollback floor");
    if (t == 15) expect(kept(cache) == List{0, 1, 6, 11, 12, 13, 14, 15}, "stream", "kept");
  }
  expect(kept(cache) == List{0, 1, 11, 13, 16, 17, 18, 19}, "stream", "kept");
  expect(rows(cache) == kept(cache), "stream", "rows of separators");
  Tracked sep_cache = make(heed::SeparatorStream{
      .initial = 2, .separators = 3, .local = 2, .capacity = 8, .ids = {2, 3, 4}, .form = heed::StreamForm::sep_cache});
  append(sep_cache, {10, 11, 9, 2, 8, 3, 7});
  append(sep_cache, {6});
  expect(kept(sep_cache) == List{0, 1, 3, 5, 6, 7}, "stream", "SepCache");
}

}  // namespace

int main() {
  cache();
  if (killer::failures != 0) return 1;  // the other parts throw where these checks fail
  eviction();
  forks();
  compaction();
  removal();
  ranks();
  acceptance();
  rules();
  streams();
  return killer::failures == 0 ? 0 : 1;
}
