// Kills mutants of a cache's memory: pages that a bound decides, pools of many sizes, and what a step touches.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <heed/cache/kv_cache.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/window.hpp>

#include "counting_new.hpp"
#include "mutants/expect.hpp"

namespace {

using heed::Index;
using killer::expect;
using Cache = heed::KvCache<heed::Gqa, heed::Bf16>;

constexpr unsigned char filling = 0xA5;
constexpr heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .scale = 1};

/// Counts, fills what it gives, and may have no more.
struct Memory {
  Index held = 0, most = Index{1} << 40;
  std::vector<std::pair<unsigned char*, std::size_t>> blocks;
  Memory() { blocks.reserve(1000); }

  heed::MemoryResource resource() {
    return {this,
            [](void* context, std::size_t bytes, std::size_t alignment) -> void* {
              auto& memory = *static_cast<Memory*>(context);
              if (memory.held + Index(bytes) > memory.most) return nullptr;
              void* block = std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
              std::memset(block, filling, bytes);
              memory.blocks.emplace_back(static_cast<unsigned char*>(block), bytes);
              memory.held += Index(bytes);
              return block;
            },
            [](void* context, void* block, std::size_t bytes, std::size_t) {
              auto& memory = *static_cast<Memory*>(context);
              std::erase_if(memory.blocks, [&](const auto& b) { return b.first == block; });
              memory.held -= Index(bytes);
              std::free(block);
            }};
  }
  Index touched() const {
    Index bytes = 0;
    for (const auto& [block, size] : blocks) bytes += Index(size) - Index(std::count(block, block + size, filling));
    return bytes;
  }
};

void append(Cache& cache, Index tokens) {
  static float rows[600 * 2 * 64];
  const std::span<const float> all(rows, std::size_t(tokens * 2 * 64));
  auto step = cache.begin(heed::NumTokens(tokens));
  bool ok = step.ok();
  for (Index layer = 0; ok && layer < cache.layers(); ++layer) ok = step->write(layer, all, all).ok();
  if (!ok || !step->commit().ok()) std::exit(2);
}

void bounds() {
  for (const Index prompt : {1, 600}) {
    Memory memory;
    auto cache = heed::value_or_throw(
        Cache::create(policy, {.layers = 2, .memory = memory.resource()}, heed::SlidingWindow{256}));
    append(cache, prompt);
    for (int i = 0; i < 600; ++i) append(cache, 1);
    const bool little = double(memory.held) <= 1.25 * double(cache.bytes().live);
    expect(little, "bound", prompt == 1 ? "pages of a window" : "pages of a prompt");
    const long before = heed_test::news.load();
    const Index held = memory.held;
    for (int i = 0; i < 300; ++i) append(cache, 1);
    expect(heed_test::counts_news() && heed_test::news.load() == before + 1, "step", "operator new");
    expect(memory.held == held, "step", "memory resource");
  }
}

void pools() {
  Memory memory;
  heed::PagePool pool(memory.resource());
  for (Index size = 1; size < 40; ++size) {
    const auto page = pool.acquire(64 * size);
    expect(page.ok(), "pool", "any number of sizes");
    if (page.ok()) pool.release(*page);
  }
  memory.most = memory.held;
  const auto page = pool.acquire(5000);
  expect(page.ok(), "pool", "idle pages make room");
  if (page.ok()) pool.release(*page);
  pool.trim();
  expect(memory.held == 0, "pool", "sizes without pages go");
}

void touching() {
  Memory memory;
  auto cache =
      heed::value_or_throw(Cache::create(policy, {.layers = 8, .page_tokens = 64, .memory = memory.resource()}));
  const Index before = memory.touched();
  auto step = heed::value_or_throw(cache.begin(heed::NumTokens(1)));
  expect(memory.touched() - before < 16 * 1024, "begin", "clears no page");
  const std::vector<float> row(2 * 64, 0.5f);
  heed::check(step.write(0, row, row));
  expect(memory.touched() - before < 64 * 1024, "write", "clears no page");

  Memory others;
  heed::PagePool pool(others.resource());
  const heed::detail::StoredStream streams[] = {{.heads = 1, .row_bytes = 16}};
  const auto layout = heed::value_or_throw(heed::detail::PageLayout::create(1, streams, 64));
  heed::Page* const page = heed::value_or_throw(pool.acquire(layout.bytes()));
  layout.prepare(page);
  const std::vector<float> ones(16 * 8, 1.0f);
  layout.encode<heed::Bf16>(page, 0, 0, 0, 16, 8, ones.data());
  const auto* behind = reinterpret_cast<const unsigned char*>(page->rows()) + 16 * 16;
  expect(std::count(behind, behind + 64, filling) == 0, "rows", "what may be read behind them is defined");
  pool.release(page);
}

/// More ids than one array holds, of a window that slides through their blocks.
void ids() {
  auto cache = heed::value_or_throw(heed::KvCache<heed::Mqa, heed::Bf16>::create(
      {.num_heads = 1, .head_dim = 8, .scale = 1}, {}, heed::SlidingWindow{5001}));
  const std::vector<float> rows(500 * 8, 0.5f);
  std::int32_t next = 0;
  for (int i = 0; i < 40; ++i) {
    std::vector<std::int32_t> tokens;
    while (tokens.size() < 500) tokens.push_back(next++);
    auto step = heed::value_or_throw(cache.begin(tokens));
    heed::check(step.write(0, rows, rows));
    heed::check(step.commit());
  }
  bool same = cache.kept() == 5000;
  for (Index key = 0; key < cache.kept(); ++key) same &= cache.token_id(key) == std::int32_t(15000 + key);
  expect(same, "ids", "of a long window");
}

/// Every other token stays for good: the list of those grows a little at a time, and a step that fails leaves it alone.
void landmarks() {
  constexpr Index step_tokens = 1000;
  Memory memory;
  auto cache = heed::value_or_throw(heed::KvCache<heed::Mqa, heed::Bf16>::create(
      {.num_heads = 1, .head_dim = 8, .scale = 1}, {.memory = memory.resource()}, heed::Separators{0, 8, {1}}));
  const std::vector<float> rows(step_tokens * 8, 0.5f);
  std::vector<std::int32_t> tokens(step_tokens, 0);
  for (std::size_t i = 0; i < tokens.size(); i += 2) tokens[i] = 1;
  bool grows = true, kept = false;
  for (int i = 0; grows && i < 120; ++i) {
    const Index bookkeeping = cache.bookkeeping_bytes();
    for (Index room = 0; i >= 10 && i < 20 && room < 128 * 1024; room += 4096) {
      memory.most = memory.held + room;
      if (cache.begin(tokens).ok()) break;
      kept |= cache.bookkeeping_bytes() != bookkeeping;
    }
    memory.most = memory.held + 256 * 1024;
    auto step = cache.begin(tokens);
    grows = step.ok() && step->write(0, rows, rows).ok() && step->commit().ok();
  }
  expect(grows, "landmarks", "grow by blocks");
  expect(!kept, "landmarks", "of a step that failed");
  const heed::LandmarkMask mask = cache.keys(0).mask();
  bool seen = true;
  for (Index key = 0; key < cache.seen(); ++key) {
    seen &= mask.visible(cache.seen() - 1, key) == (key % 2 == 0 || key > cache.seen() - 9);
  }
  expect(seen, "landmarks", "are seen");
}

/// A step that fails, one that is aborted, and a prompt that the window has forgotten.
void giving_back() {
  const std::vector<heed::LayerRule> rules{{heed::Causal{}, {0}}, {heed::SlidingWindow{300}, {1}}};
  Memory memory;
  auto cache =
      heed::value_or_throw(Cache::create(policy, {.layers = 2, .page_tokens = 4, .memory = memory.resource()}, rules));
  append(cache, 20);
  cache.trim();
  const Index held = memory.held, allocated = cache.bytes().allocated_rows;
  memory.most = held + 400 * 1024;  // the first group's pages fit
  const bool failed = !cache.begin(heed::NumTokens(500)).ok();
  memory.most = Index{1} << 40;
  expect(failed && memory.held == held && cache.bytes().allocated_rows == allocated, "begin",
         "that failed kept memory");

  Memory others;
  heed::PagePool pool(others.resource());
  auto guest = heed::value_or_throw(Cache::create(policy, {.layers = 2, .page_tokens = 4, .pool = &pool}, rules));
  append(guest, 20);
  const Index rows = guest.bytes().allocated_rows;
  heed::value_or_throw(guest.begin(heed::NumTokens(500))).abort();
  expect(guest.bytes().allocated_rows == rows, "abort", "pages of the step");
  append(guest, 600);
  for (int i = 0; i < 200; ++i) append(guest, 1);
  expect(guest.bookkeeping_bytes() < 40 * 1024, "bookkeeping", "of a prompt");
}

/// Copies of a fork's pages that a failed step made.
void copying() {
  const std::vector<heed::LayerRule> rules{{heed::Causal{}, {0}}, {heed::SlidingWindow{300}, {1}}};
  const std::vector<float> ones(500 * 2 * 64, 1.0f);
  bool kept = true;
  for (Index room = 0; room < 40; ++room) {
    Memory memory;
    auto cache = heed::value_or_throw(
        Cache::create(policy, {.layers = 2, .page_tokens = 4, .memory = memory.resource()}, rules));
    append(cache, 22);
    const auto fork = heed::value_or_throw(cache.fork());
    memory.most = memory.held + room * 32 * 1024;
    static_cast<void>(cache.begin(heed::NumTokens(500)).ok());
    memory.most = Index{1} << 40;
    heed::check(cache.clear());
    auto step = heed::value_or_throw(cache.begin(heed::NumTokens(500)));
    heed::check(step.write(0, ones, ones));
    heed::check(step.write(1, ones, ones));
    heed::check(step.commit());
    const heed::RowRun last = fork.keys(0).row_run(0, 0, 21, 1);
    kept &= std::count(last.data, last.data + 2 * 64, std::byte{0}) == 2 * 64;
  }
  expect(kept, "fork", "rows are its own");
}

}  // namespace

int main() {
  ids();
  giving_back();
  copying();
  bounds();
  pools();
  touching();
  if (killer::failures == 0) landmarks();
  return killer::failures == 0 ? 0 : 1;
}
