// KvCache::restore() of bytes whose checksum is right and whose numbers are not. What it takes must be a cache: it is
// attended to, forked, cut back, fed, tokens are removed, and its own snapshot must restore. Few bytes take little memory.
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/simd/scalar.hpp>

#include "cache/counting_memory.hpp"
#include "fuzz/rules.hpp"
#include "fuzz/snapshot_edits.hpp"

namespace {

using heed::Index;
using heed_fuzz::Bytes;
using Cache = heed::KvCache<heed::Mqa, heed::Bf16>;

constexpr Index width = 4, vocabulary = 6;
constexpr heed::Mqa policy{.num_heads = 2, .head_dim = width, .scale = 1};

void attend(const Cache& cache, const Cache::Keys& keys, Index queries) {
  std::vector<float> q(std::size_t(queries * 2 * width), 0.5f), out(q.size());
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  static_cast<void>(heed::attend<heed::Scalar>(cache.policy(), q, keys, out, workspace, serial));
}

void append(Cache& cache, Index count, Bytes& in) {
  std::vector<std::int32_t> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(std::int32_t(in.pick(0, vocabulary - 1)));
  auto step = cache.begin(ids);
  if (!step.ok()) return;
  const std::vector<float> rows(std::size_t(count * width), 0.25f);
  for (Index layer = 0; layer < cache.layers(); ++layer) {
    FUZZ_CHECK(step->write(layer, rows, rows).ok());
    attend(cache, step->keys(layer), count);
  }
  if (in.one_in(4)) return step->abort();
  if (in.one_in(4) && count > 0) {
    const Index accepted[] = {in.pick(0, count - 1)};
    FUZZ_CHECK(step->commit(accepted).ok());
    return;
  }
  FUZZ_CHECK(step->commit().ok());
}

void cut(Cache& cache, Bytes& in) {
  const Index tokens = in.pick(std::max<Index>(0, cache.rollback_floor() - 1), cache.seen());
  const bool legal = tokens == 0 || tokens >= cache.rollback_floor();
  FUZZ_CHECK(cache.truncate(tokens).ok() == legal);
}

void compact(Cache& cache, Bytes& in) {
  std::vector<Index> keep;
  for (Index key = 0; key < cache.kept(); ++key) {
    if (!in.one_in(3)) keep.push_back(cache.position(key));
  }
  static_cast<void>(cache.compact(keep));
}

void remove(Cache& cache, Bytes& in) {
  const Index begin = in.pick(0, cache.seen()), end = in.pick(begin, cache.seen());
  static_cast<void>(cache.remove(begin, end));
}

/// Behind what every layer keeps.
void resume(Cache& cache, Bytes& in) {
  Index last = -1;
  for (Index layer = 0; layer < cache.layers(); ++layer) {
    const Index kept = cache.kept(layer);
    if (kept > 0) last = std::max(last, cache.position(kept - 1, layer));
  }
  const Index position = in.pick(std::max<Index>(0, last), cache.seen());
  FUZZ_CHECK(cache.resume_at(position).ok() == (position > last));
}

void use(Cache& cache, Bytes& in, int moves) {
  for (; moves > 0; --moves) {
    switch (in.pick(0, 9)) {
      case 8: remove(cache, in); break;
      case 9: resume(cache, in); break;
      case 0: cut(cache, in); break;
      case 1: compact(cache, in); break;
      case 2: {
        auto fork = cache.fork();
        FUZZ_CHECK(fork.ok());
        cache = *std::move(fork);
        break;
      }
      default: append(cache, in.pick(0, 5), in);
    }
    if (cache.seen() > 60) FUZZ_CHECK(cache.clear().ok());
  }
  for (Index layer = 0; layer < cache.layers(); ++layer) attend(cache, cache.keys(layer), 1);
}

std::vector<std::byte> snapshot(const Cache& cache) {
  std::vector<std::byte> bytes(cache.snapshot_bytes());
  FUZZ_CHECK(cache.snapshot(bytes).ok());
  return bytes;
}

/// Restoring takes a few times the bytes that are given, a few pages, and what an empty cache takes.
void check_memory(heed::CacheOptions options, const std::vector<heed::LayerRule>& rules,
                  const std::vector<std::byte>& bytes) {
  constexpr Index times = 24, pages = 4096;  // a page of one token has 8 times its bytes
  heed_test::CountingMemory memory;
  options.memory = memory.resource();
  FUZZ_CHECK(Cache::create(policy, options, rules).ok());
  const Index empty = memory.peak;
  static_cast<void>(Cache::restore(policy, options, rules, bytes));
  FUZZ_CHECK(memory.peak <= empty + times * Index(bytes.size()) + pages,
             std::to_string(memory.peak) + " bytes of memory for " + std::to_string(bytes.size()));
  FUZZ_CHECK(memory.held == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  const std::vector<heed::LayerRule> rules{{heed_fuzz::rule(in), {0}}, {heed_fuzz::rule(in), {1}}};
  const heed::CacheOptions options{
      .layers = 2, .max_tokens = in.one_in(4) ? 20 : 0, .undo_tokens = in.pick(0, 3), .page_tokens = in.pick(1, 8)};
  auto made = Cache::create(policy, options, rules);
  if (!made.ok()) return 0;
  use(*made, in, int(in.pick(0, 12)));
  std::vector<std::byte> bytes = snapshot(*made);

  auto same = Cache::restore(policy, options, rules, bytes);
  FUZZ_CHECK(same.ok(), same.status().message());
  FUZZ_CHECK(snapshot(*same) == bytes);

  // Bytes wherever they stand, or fields that agree with each other.
  if (in.one_in(3)) {
    heed_fuzz::edit_snapshot(bytes, in);
  } else {
    constexpr std::size_t slot_bytes = 2 * width * 2;  // keys and values of a layer in bf16
    heed_fuzz::SnapshotFields fields(bytes, rules.size(), slot_bytes);
    FUZZ_CHECK(fields.bytes() == bytes);
    heed_fuzz::edit_fields(fields, slot_bytes, in);
    bytes = fields.bytes();
  }
  check_memory(options, rules, bytes);
  auto restored = Cache::restore(policy, options, rules, bytes);
  if (!restored.ok()) return 0;
  if (options.max_tokens > 0) FUZZ_CHECK(std::max(restored->kept(0), restored->kept(1)) <= options.max_tokens);
  const std::vector<std::byte> own = snapshot(*restored);
  const auto again = Cache::restore(policy, options, rules, own);
  FUZZ_CHECK(again.ok(), again.status().message());
  use(*restored, in, 8);
  const auto later = Cache::restore(policy, options, rules, snapshot(*restored));
  FUZZ_CHECK(later.ok(), later.status().message());
  return 0;
}
