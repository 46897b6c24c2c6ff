// Sizes of 2^32 and a little more, which a size_t of 32 bits takes for nothing or a little: each is refused, and nothing is
// read, written or allocated for it. Prints "right", or what was not refused.
#include <heed/heed.hpp>

#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

using heed::Index;
using heed::StatusCode;
constexpr Index all = Index{1} << 32;  // a size_t of 32 bits has so many values

static_assert(!heed::detail::has_size(0, all) && !heed::detail::has_size(1, all + 1));
static_assert(!heed::detail::has_size(0, heed::Count(1 << 16) * (1 << 16)));
static_assert(heed::detail::has_size(7, 7) && !heed::detail::has_size(7, heed::Count(-1)));
static_assert((heed::Count(all) * all).fits() == false && (heed::Count(all) + all).value() == 2 * all);

int failures = 0;
void expect(bool good, const char* what) {
  if (good) return;
  ++failures;
  std::printf("wrong: %s\n", what);
}
void expect(const heed::Status& status, StatusCode wanted, const char* what) {
  if (status.code() == wanted) return;
  std::printf("%s: status %d, wanted %d: %s\n", what, int(status.code()), int(wanted), status.message().c_str());
  ++failures;
}
using Bytes = std::vector<std::byte>;
void seal(Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::memcpy(bytes.data() + 16, &size, sizeof size);
  const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - sizeof crc});
  std::memcpy(bytes.data() + bytes.size() - sizeof crc, &crc, sizeof crc);
}

void layers() {
  const heed::Tensor nothing{.data = {}, .rows = 1 << 16, .cols = 1 << 16};
  expect(heed::Projection::create("w", nothing, 1 << 16, 1 << 16).status(), StatusCode::invalid_argument, "Projection");
  std::vector<std::uint8_t> row(66, 0x55);  // 256 weights, all zero, and their scale
  row[64] = 0x00;
  row[65] = 0x3c;
  const auto matrix = heed::ternary_from_ggml("w", row, all + 1, 256, heed::GgmlTernary::tq2_0);
  expect(matrix.status(), StatusCode::invalid_argument, "ternary_from_ggml()");
  expect(heed::ternary_from_ggml("w", row, 1, Index{1} << 40, heed::GgmlTernary::tq2_0).status(),
         StatusCode::invalid_argument, "ternary_from_ggml() of one long row");
  expect(heed::ternary_from_i2_s("w", row, Index{1} << 20, Index{1} << 14, heed::I2sBlock::x86).status(),
         StatusCode::invalid_argument, "ternary_from_i2_s()");
  expect(heed::ternary_from_ggml("w", row, 1, 256, heed::GgmlTernary::tq2_0).ok(), "ternary_from_ggml() of one row");
}

void workspaces() {
  const heed::Gqa policy{.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .scale = 1};
  // Many stages, or many workers: more than 2^32 bytes.
  const auto check = [](const heed::Result<std::size_t>& bytes) {
    if (sizeof(std::size_t) > 4) {
      expect(bytes.ok() && std::uint64_t(*bytes) > std::uint64_t(all), "workspace_bytes()");
    } else {
      expect(bytes.status(), StatusCode::out_of_memory, "workspace_bytes()");
    }
  };
  check(heed::workspace_bytes(policy, 64, 4096, 1, Index{1} << 28));
  check(heed::workspace_bytes(policy, 1 << 12, 1 << 14, 1 << 16));
  if (sizeof(std::size_t) == 4) {
    heed::Workspace workspace;
    expect(workspace.reserve(std::uint64_t(all)), StatusCode::out_of_memory, "reserve() of 2^32 bytes");
    expect(workspace.reserve(std::uint64_t(all) + 64), StatusCode::out_of_memory, "reserve() of 2^32 + 64 bytes");
  }
}

void caches() {
  using Cache = heed::KvCache<heed::Gqa, heed::F32>;
  const heed::Gqa policy{.num_heads = 1 << 16, .num_kv_heads = 1, .head_dim = 1 << 16, .scale = 1};
  auto cache = Cache::create(policy, {.page_tokens = 1});
  expect(cache.ok(), "create()");
  if (!cache.ok()) return;
  const std::vector<float> row(1 << 16);
  {
    auto step = cache->begin(heed::NumTokens(1));
    expect(step.ok() && step->write(0, row, row).ok() && step->commit().ok(), "a token");
  }
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  std::vector<float> one(1);
  // All heads of a query have 2^32 numbers.
  expect(heed::attend<heed::Scalar>(policy, one, cache->keys(0), one, workspace, executor),
         StatusCode::invalid_argument, "attend()");

  // Pages of 2^32 bytes.
  const heed::Gqa small{.num_heads = 1, .num_kv_heads = 1, .head_dim = 4, .scale = 1};
  if (sizeof(std::size_t) == 4) {
    auto wide = Cache::create(small, {.page_tokens = (all - 128) / 32});
    expect(wide.ok(), "create() with long pages");
    if (wide.ok()) expect(wide->begin(heed::NumTokens(1)).status(), StatusCode::out_of_memory, "begin()");
    expect(heed::RecurrentState::create({.layers = 1 << 14, .width = 1 << 16, .undo_tokens = 0}).status(),
           StatusCode::out_of_memory, "RecurrentState of 2^32 bytes");
  }
}

// Numbers of far tokens, ids, holes and states.
void snapshots() {
  heed::detail::SnapshotReader reader({});
  expect(reader.fits(all, 1) == 0 && !reader.complete(), "fits()");
  using Cache = heed::KvCache<heed::Gqa, heed::F32>;
  const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 4, .scale = 1};
  const auto cache = Cache::create(policy, {});
  if (!cache.ok()) return expect(false, "create()");
  Bytes good(cache->snapshot_bytes());
  expect(cache->snapshot(good).ok() && Cache::restore(policy, {}, heed::AnyRule(), good).ok(), "snapshot()");
  for (std::size_t at = 72; at + 12 <= good.size(); at += 8) {  // seen ... number of holes
    for (const Index number : {all, all + 1, 2 * all}) {
      Bytes bytes = good;
      std::memcpy(bytes.data() + at, &number, sizeof number);
      seal(bytes);
      const heed::Status status = Cache::restore(policy, {}, heed::AnyRule(), bytes).status();
      // A sum of counters may be that; without a call it must be 0.
      expect(status, StatusCode::invalid_argument, ("snapshot, byte " + std::to_string(at)).c_str());
    }
  }
  const heed::RecurrentOptions options{.layers = 1, .width = 4, .undo_tokens = 2};
  const auto state = heed::RecurrentState::create(options);
  if (!state.ok()) return expect(false, "RecurrentState");
  Bytes states(state->snapshot_bytes());
  expect(state->snapshot(states).ok(), "snapshot()");
  for (const std::size_t at : {24u, 32u, 40u, 48u}) {  // layers, width, seen, states kept
    Bytes bytes = states;
    std::memcpy(bytes.data() + at, &all, sizeof all);
    seal(bytes);
    const heed::Status status = heed::RecurrentState::restore(options, bytes).status();
    if (at != 40) expect(status, StatusCode::invalid_argument, ("state, byte " + std::to_string(at)).c_str());
  }
}

}  // namespace

int main() {
  layers();
  workspaces();
  caches();
  snapshots();
  std::puts(failures == 0 ? "right" : "wrong");
  return failures == 0 ? 0 : 1;
}
