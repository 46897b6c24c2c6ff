// attend_partial() and attend_finish(): any cut of the keys has the bits of attend().
#include "laws/partial.hpp"

namespace heed_test::partial_test {
namespace {

class Partial : public Laws {};
HEED_FOR_ALL_KERNELS(Partial);

/// The problem whole, and in random parts.
void expect_any_cut(const Subject& subject, const Problem& p, const Source& keys, int repeats, oracle::Random& random) {
  const Output whole = run(subject, p, keys);
  const KeyRange held = subject.storage.key_chunks(keys, p.mask.ref());
  for (int i = 0; i < repeats; ++i) {
    const std::vector<KeyRange> ranges = random_ranges(held, random.below(7), random);
    EXPECT_TRUE(whole == in_parts(subject, p, keys, ranges, random)) << p << " in " << ranges.size();
  }
}

void add_options(Problem& p) {
  p.soft_cap = 4;
  for (Index h = 0; h < p.shape.heads; ++h) {
    p.slopes.push_back(0.001f * float(h));
    p.sinks.push_back(h == 1 ? -infinity : float(h) - 1);
  }
}

TEST_P(Partial, AnyCutHasTheBitsOfAttend) {
  oracle::Random random(1);
  for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 4000}, {3, 2305}, {40, 1300}, {1, 256}, {2, 1}}) {
    for (const AnyMask& mask : {causal(), window(700), holes(3), ignorant_causal()}) {
      Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 20}, queries, keys, 1);
      p.mask = mask;
      if (random.below(2) == 0) add_options(p);
      const auto cache = filled(subject(), p);
      expect_any_cut(subject(), p, *cache->keys(), slow() ? 2 : 5, random);
    }
  }
}

/// Chunks that rows do not see: 36 of them, so that nodes of many levels lack some.
TEST_P(Partial, AnyCutWithChunksMissing) {
  oracle::Random random(2);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    Problem p = gaussian({.heads = 2, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, 4, 9000, seed);
    p.mask = holes(seed);
    const auto cache = filled(subject(), p);
    expect_any_cut(subject(), p, *cache->keys(), 8, random);
  }
}

/// Maps before and after the kernel, keys and values made per chunk.
TEST_P(Partial, EveryMechanismAndOption) {
  oracle::Random random(3);
  for (const Mechanism mechanism : mechanisms()) {
    for (const Index queries : {1, 30}) {
      Problem p = gaussian({.mechanism = mechanism, .heads = 4, .kv_heads = 2, .key_dim = 24, .value_dim = 16}, queries,
                           1500, 4);
      add_options(p);
      const auto cache = filled(subject(), p);
      expect_any_cut(subject(), p, *cache->keys(), slow() ? 1 : 3, random);
    }
  }
}

/// Far and near chunks are cut apart. Near slots begin anywhere.
TEST_P(Partial, FarAndNearChunks) {
  oracle::Random random(5);
  for (const auto& [landmarks, first_slot] :
       {std::pair<Index, Index>{900, 0}, {257, 255}, {1300, 4'000'037}, {0, 256}}) {
    const Index tokens = landmarks + 1700, queries = 12;
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12}, queries, tokens, 6);
    add_options(p);
    Split mask{.landmark = std::vector<char>(std::size_t(tokens)), .first_slot = first_slot};
    for (Index i = 0; i < landmarks; ++i) mask.landmark[std::size_t(i * (tokens - 500) / landmarks)] = 1;
    for (Index i = 0; i < tokens; ++i) {
      mask.begin.push_back(std::max<Index>(0, i - 600 - i % 5));
      mask.blind.push_back(i % 7 == 0);
    }
    std::vector<Index> kept;
    for (Index i = 0; i < tokens; ++i) {
      if (mask.landmark[std::size_t(i)] || i >= mask.begin[std::size_t(tokens - queries)] - 8) kept.push_back(i);
    }
    const Split whole = mask.of(kept);
    p.mask = split(whole);
    const auto cache = filled(subject(), p);
    const auto rows = cache->keys();
    const Picked keys(*rows, kept);
    expect_any_cut(subject(), p, keys, slow() ? 3 : 8, random);

    // Somebody who holds the later far keys only says how many chunks of them come before.
    if (landmarks < 257) continue;
    Split later = whole;
    later.far.erase(later.far.begin(), later.far.begin() + 256);
    later.far_token.erase(later.far_token.begin(), later.far_token.begin() + 256);
    PartialStates early, late;
    attend_part(subject(), p, keys, {.far_chunks = {0, 1}, .near_chunks = {0, 0}}, early);
    Problem rest = p;
    rest.mask = split(later);
    attend_part(subject(), rest, keys, {.far_chunks = {1, KeyRange::all}, .first_far = 1}, late, 3);
    const PartialView parts[] = {late, early};
    EXPECT_TRUE(run(subject(), p, keys) == finish(subject(), p, parts)) << p;
  }
}

/// Every stage has its own list of keys, of which the range takes the same chunks.
TEST_P(Partial, StagedSources) {
  oracle::Random random(7);
  for (const Index largest : {1, 7}) {
    Problem p = gaussian({.mechanism = subject().shares() ? Mechanism::mla : Mechanism::gqa,
                          .heads = 4,
                          .kv_heads = 2,
                          .key_dim = 16,
                          .value_dim = 12},
                         20, 1900, 8);
    add_options(p);
    const auto cache = filled(subject(), p);
    const auto rows = cache->keys();
    std::vector<Staged::Stage> stages;
    for (Index first = 0; first < p.queries;) {
      Staged::Stage stage{{first, std::min(p.queries, first + 1 + random.below(largest))}, {}};
      const Index own = p.keys - p.queries + first, density = 1 + random.below(5);
      for (Index token = 0; token < own; ++token) {
        if (random.below(density) == 0) stage.keys.push_back(token);
      }
      for (Index i = 0; i < stage.queries.size(); ++i) stage.keys.push_back(own + i);
      first = stage.queries.end;
      stages.push_back(std::move(stage));
    }
    const Staged keys(*rows, stages);
    Output whole{std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
                 std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)};
    heed::Workspace workspace;
    const Call call{&keys, {}, p.q, whole.out, whole.lse};
    ASSERT_TRUE(subject().attend(p.shape, {&call, 1}, workspace, workers(2), p.options()).ok());
    const KeyRange held = subject().storage.key_chunks(keys, {});
    EXPECT_EQ(held.far_chunks, (Interval{0, 0}));
    for (int repeat = 0; repeat < 6; ++repeat) {
      const std::vector<KeyRange> ranges = random_ranges(held, random.below(5), random);
      std::deque<PartialStates> states(ranges.size());
      std::vector<PartialView> parts;
      for (std::size_t i = 0; i < ranges.size(); ++i) {
        const PartialCall part{&keys, {}, p.q, ranges[i], &states[i]};
        const heed::Status status = subject().storage.attend_partial(subject().kernel, p.shape, {&part, 1}, workspace,
                                                                     workers(1 + random.below(3)), p.options());
        ASSERT_TRUE(status.ok()) << status.message();
        parts.emplace_back(states[i]);
      }
      EXPECT_TRUE(whole == finish(subject(), p, parts)) << largest;
    }
  }
}

/// Several sequences of other lengths in one partial call and one finish.
TEST_P(Partial, Batches) {
  oracle::Random random(9);
  const AttentionShape shape{.mechanism = subject().shares() ? Mechanism::mla : Mechanism::gqa,
                             .heads = 4,
                             .kv_heads = 2,
                             .key_dim = 16,
                             .value_dim = 12};
  std::vector<Problem> problems;
  std::vector<std::unique_ptr<Cache>> caches;
  std::vector<std::unique_ptr<Source>> sources;
  std::vector<Output> alone, got;
  for (const auto& [queries, keys] :
       {std::pair<Index, Index>{1, 700}, {16, 300}, {0, 5}, {1, 3000}, {5, 0}, {50, 512}, {1, 1}}) {
    problems.push_back(gaussian(shape, queries, keys, 10 + problems.size()));
    if (problems.size() % 3 == 0) problems.back().mask = window(100);
    caches.push_back(filled(subject(), problems.back()));
    sources.push_back(caches.back()->keys());
    alone.push_back(run(subject(), problems.back(), *sources.back()));
    got.push_back({std::vector<float>(alone.back().out.size(), nan), std::vector<float>(alone.back().lse.size(), nan)});
  }
  const AttentionShape& of_all = problems[0].shape;
  for (const Index threads : {1, 3}) {
    std::deque<PartialStates> states;
    std::vector<PartialCall> calls;
    std::vector<std::vector<PartialView>> parts(problems.size());
    for (std::size_t i = 0; i < problems.size(); ++i) {
      const KeyRange held = subject().storage.key_chunks(*sources[i], problems[i].mask.ref());
      for (const KeyRange& range : random_ranges(held, 2, random)) {
        calls.push_back({sources[i].get(), problems[i].mask.ref(), problems[i].q, range, &states.emplace_back()});
        parts[i].emplace_back(states.back());
      }
    }
    heed::Workspace workspace;
    heed::Status status =
        subject().storage.attend_partial(subject().kernel, of_all, calls, workspace, workers(threads), {});
    ASSERT_TRUE(status.ok()) << status.message();
    std::vector<heed::FinishSequence> sequences;
    for (std::size_t i = 0; i < problems.size(); ++i) sequences.push_back({parts[i], got[i].out, got[i].lse});
    status = subject().storage.attend_finish(subject().kernel, of_all, sequences, workspace, workers(threads), {});
    ASSERT_TRUE(status.ok()) << status.message();
    for (std::size_t i = 0; i < problems.size(); ++i) EXPECT_TRUE(got[i] == alone[i]) << problems[i];
  }
}

/// States are the same bytes for any number of workers, and whatever was in their memory and in the workspace. They can be
/// sent and read at any address.
TEST_P(Partial, StatesArePlainBytes) {
  Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12}, 3, 2400, 11);
  p.mask = holes(2);
  const auto cache = filled(subject(), p);
  const auto keys = cache->keys();
  const KeyRange ranges[] = {{.near_chunks = {0, 3}}, {.near_chunks = {3, 7}}, {.near_chunks = {7, KeyRange::all}}};
  std::vector<PartialView> parts;
  std::deque<PartialStates> received;
  for (const KeyRange& range : ranges) {
    PartialStates one;
    attend_part(subject(), p, *keys, range, one);
    for (const Index threads : {2, 7}) {
      std::vector<std::byte> memory(one.bytes().size() + 64, std::byte{0x5a});
      PartialStates other{std::span<std::byte>(memory)};
      attend_part(subject(), p, *keys, range, other, threads);
      ASSERT_EQ(one.bytes().size(), other.bytes().size());
      EXPECT_EQ(std::memcmp(one.bytes().data(), other.bytes().data(), one.bytes().size()), 0) << threads;
    }
    std::vector<std::byte> sent(one.bytes().size() + 3);
    std::memcpy(sent.data() + 3, one.bytes().data(), one.bytes().size());
    ASSERT_TRUE(received.emplace_back().assign(std::span(sent).subspan(3)).ok());
    parts.emplace_back(received.back());
  }
  EXPECT_EQ(received[0].num_queries(), 3);
  EXPECT_EQ(received[0].num_heads(), 4);
  EXPECT_EQ(received[0].value_width(), 12);
  EXPECT_EQ(received[0].num_nodes(), 2);  // [0, 2) and [2, 3)
  EXPECT_EQ(received[1].num_nodes(), 3);  // [3, 4), [4, 6) and [6, 7)
  EXPECT_EQ(received[2].num_nodes(), 2);  // [7, 8) and [8, 16), which has chunks 8 and 9
  EXPECT_TRUE(run(subject(), p) == finish(subject(), p, parts));
}

/// The promised bytes suffice; with one less the call is refused, and nothing is written.
TEST_P(Partial, PromisedBytesSuffice) {
  oracle::Random random(12);
  for (int i = 0; i < 30; ++i) {
    const Problem p = random_problem(random, mechanisms(), 40, 3000, 13);
    const Index threads = 1 + random.below(4);
    const auto cache = filled(subject(), p);
    const auto keys = cache->keys();
    const Output want = run(subject(), p);
    const Index at = random.below(14);
    std::deque<PartialStates> states;
    std::deque<std::vector<std::byte>> memory;
    std::vector<PartialView> parts;
    PartialSizes sizes{.queries = p.queries, .keys = p.keys, .workers = threads};
    for (const KeyRange& range : {KeyRange::before(at), KeyRange::from(at)}) {
      sizes.range = range;
      const PartialBytes bytes = subject().storage.partial_bytes(subject().kernel, p.shape, sizes);
      std::vector<std::byte> scratch(bytes.workspace);
      heed::Workspace workspace{std::span<std::byte>(scratch)};
      memory.emplace_back(bytes.states);
      PartialStates& mine = states.emplace_back(std::span<std::byte>(memory.back()));
      PartialCall call{keys.get(), p.mask.ref(), p.q, range, &mine};
      const auto attend = [&](heed::Workspace& in) {
        return subject().storage.attend_partial(subject().kernel, p.shape, {&call, 1}, in, workers(threads), {});
      };
      ASSERT_TRUE(attend(workspace).ok()) << attend(workspace).message() << p;
      EXPECT_LE(mine.bytes().size() + 64, bytes.states);
      parts.emplace_back(mine);
      sizes.nodes += mine.num_nodes();

      std::vector<std::byte> before(mine.bytes().begin(), mine.bytes().end());
      heed::Workspace none{std::span<std::byte>()};
      EXPECT_EQ(attend(none).code(), heed::StatusCode::out_of_memory);
      EXPECT_TRUE(std::equal(before.begin(), before.end(), mine.bytes().begin(), mine.bytes().end()));
      std::vector<std::byte> small(mine.bytes().size() + 63);
      const std::size_t shift = (64 - std::size_t(reinterpret_cast<std::uintptr_t>(small.data()) % 64)) % 64;
      PartialStates less{std::span<std::byte>(small).subspan(shift, mine.bytes().size() - 1)};
      call.states = &less;
      const heed::Status refused = attend(workspace);
      EXPECT_EQ(refused.code(), heed::StatusCode::out_of_memory);
      EXPECT_EQ(refused.message(), "sequence 0: states have " + std::to_string(mine.bytes().size() - 1) +
                                       " bytes, this call needs " + std::to_string(mine.bytes().size()));
      EXPECT_TRUE(less.empty());
    }
    std::vector<std::byte> scratch(subject().storage.partial_bytes(subject().kernel, p.shape, sizes).finish_workspace);
    heed::Workspace workspace{std::span<std::byte>(scratch)};
    Output got{std::vector<float>(want.out.size(), nan), std::vector<float>(want.lse.size(), nan)};
    const Output untouched = got;
    const heed::FinishSequence sequence{parts, got.out, got.lse};
    const auto finish = [&](heed::Workspace& in) {
      return subject().storage.attend_finish(subject().kernel, p.shape, {&sequence, 1}, in, workers(threads), {});
    };
    heed::Workspace none{std::span<std::byte>()};
    EXPECT_EQ(finish(none).code(), heed::StatusCode::out_of_memory);
    EXPECT_TRUE(got == untouched);
    ASSERT_TRUE(finish(workspace).ok()) << finish(workspace).message();
    EXPECT_TRUE(got == want) << p;
  }
}

/// States of an earlier, larger call are overwritten whole.
TEST_P(Partial, StatesAreUsedAgain) {
  PartialStates first, second;
  for (const auto& [queries, keys] : {std::pair<Index, Index>{9, 2000}, {2, 700}, {3, 100}, {1, 0}, {5, 900}}) {
    const Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 12}, queries, keys, 14);
    const auto cache = filled(subject(), p);
    const auto rows = cache->keys();
    attend_part(subject(), p, *rows, KeyRange::from(1), second);
    attend_part(subject(), p, *rows, KeyRange::before(1), first);
    const PartialView parts[] = {first, second};
    EXPECT_TRUE(run(subject(), p) == finish(subject(), p, parts)) << p;
  }
}

/// A NaN in a key reaches the queries that see it, whichever part it is in, and no other.
TEST_P(Partial, NanStaysWhereItIsSeen) {
  oracle::Random random(15);
  for (const Index bad : {300, 1200}) {
    Problem p = gaussian({.heads = 2, .kv_heads = 2, .key_dim = 8, .value_dim = 8}, 20, 1400, 16);
    p.mask = window(150);
    p.keys = 1400;
    std::fill(p.k.begin() + bad * p.k_row(), p.k.begin() + (bad + 1) * p.k_row(), nan);
    std::fill(p.v.begin() + bad * p.v_row(), p.v.begin() + (bad + 1) * p.v_row(), nan);
    for (Index i = 0; i < p.queries; ++i) p.query_positions.push_back(1130 + 10 * i);
    const auto cache = filled(subject(), p);
    const auto keys = cache->keys();
    const Output whole = run(subject(), p, *keys);
    const Output got = in_parts(subject(), p, *keys, random_ranges({{}, {0, 6}}, 3, random), random);
    for (std::size_t i = 0; i < whole.out.size(); ++i) {
      EXPECT_TRUE(whole.out[i] == got.out[i] || (std::isnan(whole.out[i]) && std::isnan(got.out[i]))) << i;
    }
  }
}

/// Chunks that nobody answers for are left out.
TEST_P(Partial, ChunksLeftOut) {
  Problem p = gaussian({.heads = 2, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, 2, 1300, 17);
  const auto cache = filled(subject(), p);
  const auto keys = cache->keys();
  PartialStates states, none;
  attend_part(subject(), p, *keys, KeyRange::from(4), states);
  attend_part(subject(), p, *keys, KeyRange::from(9), none);
  const PartialView parts[] = {none, states};
  Problem late = p;
  late.mask = {"window", heed::SlidingWindow{1300 - 1024}};
  late.queries = 1;
  late.q.erase(late.q.begin(), late.q.begin() + p.q_row());
  const Output want = run(subject(), late, *keys), got = finish(subject(), p, parts);
  EXPECT_EQ(std::memcmp(want.out.data(), got.out.data() + p.out_row(), want.out.size() * 4), 0);
  EXPECT_EQ(none.num_nodes(), 0);
  const PartialView nothing[] = {none};
  const Output empty = finish(subject(), p, nothing);
  for (const float x : empty.out) EXPECT_EQ(x, 0);
  for (const float x : empty.lse) EXPECT_EQ(x, -infinity);
}

}  // namespace
}  // namespace heed_test::partial_test
