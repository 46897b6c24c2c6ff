/// \file
/// Bytes with a right checksum and wrong numbers: an error, or a cache that obeys every law of a cache. Nothing here knows
/// where in a snapshot which number stands.
#include <bit>
#include <cstring>
#include <limits>
#include <set>

#include <heed/attend.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "cache/counting_memory.hpp"
#include "cache/instances.hpp"
#include "sanitizers.hpp"

namespace heed_test::snapshot_hostile_test {
namespace {

using heed::AnyRule;
using heed::StatusCode;
using Bytes = std::vector<std::byte>;
using Policy = heed::RotatedKeys<heed::Gqa>;
using Cache = heed::KvCache<Policy, heed::F32, heed::Bf16>;
constexpr Index width = 4;

const Policy& policy() {
  static const heed::Rope rope = heed::value_or_throw(
      heed::Rope::create({.head_dim = width, .layout = heed::RopeLayout::half_split, .theta = 100}));
  static const Policy made{.policy = {.num_heads = 1, .num_kv_heads = 1, .head_dim = width, .scale = 0.5f},
                           .rope = &rope};
  return made;
}

/// A cache with a history, and what it was made from.
struct Subject {
  AnyRule rule;
  heed::CacheOptions options;
  Bytes bytes;
};

std::vector<float> some_rows(Index tokens) {
  std::vector<float> rows(std::size_t(tokens * width));
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = float(i % 11) * 0.2f - 1;
  return rows;
}
heed::Status attend_all(const Cache::Keys& view, Index queries) {
  const std::vector<float> q = some_rows(queries);
  std::vector<float> out(q.size());
  static heed::Workspace workspace;
  heed::SerialExecutor serial;
  return heed::attend<heed::Scalar>(policy(), q, view, out, workspace, serial);
}

/// Every key of a view has a position of its own, and every list of a step consists of rows of the view.
void expect_view(const Cache::Keys& view, Index end) {
  std::set<const std::byte*> rows;
  Index before = -1;
  for (Index key = 0; key < view.size(); ++key) {
    const Index position = view.position(key);
    ASSERT_GT(position, before);
    ASSERT_LT(position, end);
    before = position;
    rows.insert(view.row_run(0, 0, key, 1).data);
  }
  ASSERT_EQ(Index(rows.size()), view.size());
  for (Index stage = 0; stage < view.stages(); ++stage) {
    const Index size = view.stage_size(stage);
    ASSERT_GE(size, 1);
    ASSERT_LE(size, view.size());
    std::set<const std::byte*> seen;
    for (Index key = 0; key < size; ++key) {
      const heed::RowRun run = view.stage_row_run(stage, 0, 0, key, 1);
      ASSERT_EQ(run.rows, 1);
      ASSERT_TRUE(rows.contains(run.data)) << "stage " << stage << ", key " << key;
      seen.insert(run.data);
    }
    ASSERT_EQ(Index(seen.size()), size);
  }
}

void append_some(Cache& cache, Index tokens, std::mt19937_64& random, heed::Eviction eviction = heed::Eviction::now) {
  std::vector<std::int32_t> ids;
  for (Index i = 0; i < tokens; ++i) ids.push_back(std::int32_t(random() % 4));
  auto step = cache.begin(ids);
  if (!step.ok()) {
    ASSERT_EQ(step.status().code(), StatusCode::out_of_range) << step.status().message();  // max_tokens
    return;
  }
  const std::vector<float> rows = some_rows(tokens);
  ASSERT_TRUE(step->write(0, rows, rows).ok());
  ASSERT_NO_FATAL_FAILURE(expect_view(step->keys(0), cache.seen() + tokens));
  const heed::Status attended = attend_all(step->keys(0), tokens);
  ASSERT_TRUE(attended.ok()) << attended.message();
  ASSERT_TRUE(step->commit(eviction).ok());
}

Bytes snapshot_of(const Cache& cache) {
  Bytes bytes(cache.snapshot_bytes());
  heed::check(cache.snapshot(bytes));
  return bytes;
}

/// Everything an engine may do to a cache.
void exercise(Cache& cache, const Subject& subject, std::mt19937_64& random) {
  ASSERT_NO_FATAL_FAILURE(expect_view(cache.keys(0), cache.seen()));
  if (cache.kept() > 0) {
    const heed::Status attended = attend_all(cache.keys(0), 1);
    ASSERT_TRUE(attended.ok() || attended.code() == heed::StatusCode::wrong_state) << attended.message();
  }
  const Bytes bytes = snapshot_of(cache);
  auto twin = Cache::restore(policy(), subject.options, subject.rule, bytes);
  ASSERT_TRUE(twin.ok()) << twin.status().message();
  ASSERT_EQ(snapshot_of(*twin), bytes);
  const Index seen = cache.seen(), floor = cache.rollback_floor();
  ASSERT_GE(floor, 0);
  ASSERT_LE(floor, seen);
  for (Index tokens = std::max(floor, seen - 70); tokens <= seen; ++tokens) {
    auto fork = cache.fork();
    ASSERT_TRUE(fork.ok()) << fork.status().message();
    ASSERT_TRUE(fork->truncate(tokens).ok());
    ASSERT_NO_FATAL_FAILURE(expect_view(fork->keys(0), tokens));
    for (const Index count : {1, 3}) ASSERT_NO_FATAL_FAILURE(append_some(*fork, count, random)) << "after " << tokens;
  }
  auto fork = heed::value_or_throw(cache.fork());
  ASSERT_TRUE(fork.clear().ok());
  ASSERT_NO_FATAL_FAILURE(append_some(fork, 2, random));
  auto other = heed::value_or_throw(cache.fork());
  std::vector<Index> keep;
  for (Index key = 0; key < other.kept(); key += 1 + Index(random() % 2)) keep.push_back(other.position(key));
  const auto moved = other.compact(keep);
  ASSERT_TRUE(moved.ok() || moved.status().code() == StatusCode::unsupported) << moved.status().message();
  auto holed = heed::value_or_throw(cache.fork());
  const heed::Status removed = holed.remove(std::max<Index>(0, seen - 5), std::max<Index>(0, seen - 3));
  ASSERT_TRUE(removed.ok() || removed.code() == StatusCode::unsupported) << removed.message();
  const heed::Status resumed = holed.resume_at(std::max<Index>(0, seen - 1));
  ASSERT_TRUE(resumed.ok() || resumed.code() == StatusCode::out_of_range) << resumed.message();
  ASSERT_NO_FATAL_FAILURE(expect_view(holed.keys(0), holed.seen()));
  for (const Index count : {1, 2, 7, 1, 12}) {
    ASSERT_NO_FATAL_FAILURE(append_some(holed, count, random));
    ASSERT_NO_FATAL_FAILURE(append_some(other, count, random));
    ASSERT_NO_FATAL_FAILURE(append_some(cache, count, random));
  }
  ASSERT_TRUE(cache.truncate(cache.rollback_floor()).ok());
}

/// Histories in which every number of a snapshot differs from 0.
const std::vector<Subject>& subjects() {
  static const std::vector<Subject> all = [] {
    using heed::Positions, heed::SeparatorStream, heed::StreamForm;
    struct Case {
      AnyRule rule;
      Positions positions = Positions::absolute;
      Index undo = 0, tokens = 20;
      bool compact = false;
    };
    const SeparatorStream stream{.initial = 2, .separators = 2, .local = 3, .capacity = 9, .ids = {1}};
    SeparatorStream before = stream, forgets = stream, grows = stream;
    before.form = StreamForm::sep_cache;
    forgets.accumulate = false;
    grows.bounded = false;
    const Case cases[] = {
        {heed::Causal{}},
        {heed::Causal{}, Positions::absolute, 0, 9, true},
        {heed::SlidingWindow{5}, Positions::absolute, 3},
        {heed::SlidingWindow{7}, Positions::rank, 2},
        {heed::SlidingWindow{heed::unlimited}, Positions::absolute, 1, 8, true},
        {heed::SinkWindow{2, 5}, Positions::rank, 0},
        {heed::SinkWindow{3, 4}, Positions::absolute, 2, 20, true},
        {heed::Anchors{.ids = {1}}, Positions::absolute, 2},
        {heed::Separators{1, 4, {1}}, Positions::absolute, 2},
        {heed::Separators{2, 6, {1}}, Positions::absolute, 0, 20, true},
        {heed::Separators{0, 1, {1, 2}}, Positions::absolute, 5},
        {stream, Positions::absolute, 2, 24},
        {stream, Positions::rank, 0, 24},
        {before, Positions::rank, 3, 24},
        {before, Positions::absolute, 0, 25},
        {forgets, Positions::absolute, 1, 26},
        {grows, Positions::rank, 1, 30},
    };
    std::vector<Subject> made;
    std::mt19937_64 random(3);
    for (const Case& one : cases) {
      Subject subject{one.rule, {.positions = one.positions, .undo_tokens = one.undo, .page_tokens = 2}, {}};
      Cache cache = heed::value_or_throw(Cache::create(policy(), subject.options, subject.rule));
      for (Index i = 0; i < one.tokens; ++i) append_some(cache, 1, random);
      append_some(cache, 4, random, heed::Eviction::later);
      if (one.compact) {
        std::vector<Index> keep;
        for (Index key = 0; key < cache.kept(); ++key) {
          if (key != 1 && key != 4) keep.push_back(cache.position(key));
        }
        heed::check(cache.compact(keep).status());
        append_some(cache, 3, random);
      }
      if (cache.rollback_floor() < cache.seen()) heed::check(cache.truncate(cache.seen() - 1));
      subject.bytes = snapshot_of(cache);
      made.push_back(std::move(subject));
    }
    return made;
  }();
  return all;
}

/// A right length and a right checksum.
void seal(Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::memcpy(bytes.data() + 16, &size, sizeof size);
  const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - sizeof crc});
  std::memcpy(bytes.data() + bytes.size() - sizeof crc, &crc, sizeof crc);
}

/// Whatever the bytes say, restoring them takes no more than a few times as many, two pages, and what an empty cache takes.
void expect_little_memory(const Bytes& bytes, const Subject& subject) {
  constexpr Index times = 8, pages = 2 * 512;
  CountingMemory memory;
  heed::CacheOptions options = subject.options;
  options.memory = memory.resource();
  ASSERT_TRUE(Cache::create(policy(), options, subject.rule).ok());
  const Index empty = memory.peak;
  static_cast<void>(Cache::restore(policy(), options, subject.rule, bytes));
  ASSERT_LE(memory.peak, empty + times * Index(bytes.size()) + pages);
  ASSERT_EQ(memory.held, 0);
}

struct Tally {
  int accepted = 0, refused = 0;
};
void try_bytes(Bytes bytes, const Subject& subject, std::mt19937_64& random, Tally& tally) {
  seal(bytes);
  ASSERT_NO_FATAL_FAILURE(expect_little_memory(bytes, subject));
  auto made = Cache::restore(policy(), subject.options, subject.rule, bytes);
  if (!made.ok()) {
    ++tally.refused;
    ASSERT_EQ(made.status().code(), StatusCode::invalid_argument) << made.status().message();
    ASSERT_TRUE(made.status().message().starts_with("snapshot: ")) << made.status().message();
    return;
  }
  ++tally.accepted;
  ASSERT_NO_FATAL_FAILURE(exercise(*made, subject, random));
}

TEST(CacheSnapshotHostile, WhatIsNotEditedWorks) {
  std::mt19937_64 random(5);
  Tally tally;
  for (const Subject& subject : subjects()) {
    ASSERT_NO_FATAL_FAILURE(try_bytes(subject.bytes, subject, random, tally)) << subject.rule.name();
  }
  EXPECT_EQ(tally.refused, 0);
}

/// Every eight bytes become an extreme number, or a little more or less than they were.
TEST(CacheSnapshotHostile, EveryNumberIsEdited) {
  std::mt19937_64 random(6);
  Tally tally;
  int edits = 0;
  constexpr Index most = std::numeric_limits<Index>::max();
  for (std::size_t s = 0; s < subjects().size(); ++s) {
    const Subject& subject = subjects()[s];
    for (std::size_t at = 24; at + 12 <= subject.bytes.size() && at < 400; at += 4) {
      Index was = 0;
      std::memcpy(&was, subject.bytes.data() + at, sizeof was);
      std::vector<Index> values{0,    1,        -1,    -2,        Index{1} << 31, Index{1} << 47, Index{1} << 48,
                                most, most - 1, -most, -most - 1, most / 2,       Index{1} << 56};
      for (Index more = -3; more <= 3; ++more) values.push_back(Index(std::uint64_t(was) + std::uint64_t(more)));
      for (const Index value : values) {
        if (value == was || ++edits % one_of(7) != 0) continue;
        Bytes bytes = subject.bytes;
        std::memcpy(bytes.data() + at, &value, sizeof value);
        ASSERT_NO_FATAL_FAILURE(try_bytes(bytes, subject, random, tally))
            << "subject " << s << ", " << subject.rule.name() << ", byte " << at << ": " << value << ", was " << was;
      }
    }
  }
  EXPECT_GT(tally.accepted, 1000 / one_of(10));
  EXPECT_GT(tally.refused, 1000 / one_of(10));
}

TEST(CacheSnapshotHostile, EveryByteIsEdited) {
  std::mt19937_64 random(7);
  Tally tally;
  int edits = 0;
  for (std::size_t s = 0; s < subjects().size(); ++s) {
    const Subject& subject = subjects()[s];
    for (std::size_t at = 0; at + 4 < subject.bytes.size(); ++at) {
      for (const int change : {0x01, 0xff}) {
        if (++edits % one_of(7) != 0) continue;
        Bytes bytes = subject.bytes;
        bytes[at] ^= std::byte(change);
        ASSERT_NO_FATAL_FAILURE(try_bytes(bytes, subject, random, tally))
            << "subject " << s << ", " << subject.rule.name() << ", byte " << at << " ^ " << change;
      }
    }
  }
  EXPECT_GT(tally.accepted, 1000 / one_of(10));
  EXPECT_GT(tally.refused, 1000 / one_of(10));
}

/// Two numbers at once, which may agree with each other, and another length.
TEST(CacheSnapshotHostile, SeveralNumbersAreEdited) {
  std::mt19937_64 random(8);
  Tally tally;
  for (std::size_t s = 0; s < subjects().size(); ++s) {
    const Subject& subject = subjects()[s];
    for (int repeat = 0; repeat < 500 / one_of(7); ++repeat) {
      Bytes bytes = subject.bytes;
      const Index shift = Index(random() % 9) - 4, edits = pick(random, 2, 4);
      for (Index e = 0; e < edits; ++e) {
        const std::size_t at = 24 + 4 * (random() % std::min<std::size_t>((bytes.size() - 40) / 4, 70));
        Index number = 0;
        std::memcpy(&number, bytes.data() + at, sizeof number);
        number = random() % 8 == 0 ? Index(random()) : Index(std::uint64_t(number) + std::uint64_t(shift));
        std::memcpy(bytes.data() + at, &number, sizeof number);
      }
      if (random() % 4 == 0) bytes.resize(std::max<std::size_t>(40, bytes.size() + random() % 64 - 32));
      ASSERT_NO_FATAL_FAILURE(try_bytes(bytes, subject, random, tally)) << "subject " << s << ", repeat " << repeat;
    }
  }
  EXPECT_GT(tally.refused, 1000 / one_of(10));
}

}  // namespace
}  // namespace heed_test::snapshot_hostile_test
