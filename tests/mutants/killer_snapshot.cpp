// Kills mutants of snapshots and of moves. A snapshot's numbers are edited wherever they stand: the refusals must name all
// that can be wrong with them.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/recurrent_state.hpp>
#include <heed/cache/rule_mask.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/f32.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>
#include <heed/simd/scalar.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::AnyRule;
using heed::Index;
using killer::expect;
using Bytes = std::vector<std::byte>;
using Ids = std::vector<std::int32_t>;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
constexpr heed::Mqa policy{.num_heads = 1, .head_dim = 1, .scale = 1};

Cache make(const AnyRule& rule) { return heed::value_or_throw(Cache::create(policy, {.page_tokens = 2}, rule)); }
void append(Cache& cache, const Ids& ids) {
  for (const std::int32_t id : ids) {
    auto step = heed::value_or_throw(cache.begin(std::span(&id, 1)));
    const float row[] = {float(cache.seen())};
    heed::check(step.write(0, row, row));
    heed::check(step.commit());
  }
}
template <class T>
Bytes snapshot_of(const T& from) {
  Bytes bytes(from.snapshot_bytes());
  heed::check(from.snapshot(bytes));
  return bytes;
}
void seal(Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::memcpy(bytes.data() + 16, &size, sizeof size);
  const std::uint32_t crc = heed::detail::crc32({bytes.data(), bytes.size() - sizeof crc});
  std::memcpy(bytes.data() + bytes.size() - sizeof crc, &crc, sizeof crc);
}

// --- caches -----------------------------------------------------------------------------------------------------------

/// What restore() says when any eight bytes of `good` are a little other than they are: "floor is 21", ...
std::set<std::string> refusals(const AnyRule& rule, const Bytes& good) {
  std::set<std::string> said;
  for (std::size_t at = 72; at + 12 <= good.size(); at += 4) {
    Index was = 0;
    std::memcpy(&was, good.data() + at, sizeof was);
    std::vector<Index> values{-1, 0, 1, 21};
    if (was > Index{1} << 60) values.push_back(std::bit_cast<Index>(std::numeric_limits<double>::quiet_NaN()));
    for (Index more = -9; more <= 9; ++more) values.push_back(Index(std::uint64_t(was) + std::uint64_t(more)));
    for (const Index value : values) {
      Bytes bytes = good;
      std::memcpy(bytes.data() + at, &value, sizeof value);
      seal(bytes);
      const heed::Status status = Cache::restore(policy, {}, rule, bytes).status();
      if (!status.ok()) said.insert(std::string(status.message()).substr(std::strlen("snapshot: ")));
    }
  }
  return said;
}

/// A stream of somebody else, which does not say from what is evicted how far back one can go.
struct Stream : heed::SeparatorStream {
  Index rollback_floor(Index, Index) const noexcept { return 0; }
};

void caches() {
  const AnyRule marks = heed::Separators{1, 4, {1}};
  const AnyRule stream = heed::SeparatorStream{.initial = 2, .separators = 2, .local = 3, .capacity = 9, .ids = {1}};
  for (const AnyRule& rule : {marks, stream}) {
    Cache cache = make(rule);
    append(cache, {2, 3, 1, 4, 1, 5, 5, 5, 1, 5, 5, 5, 1, 5, 5, 5, 5, 5, 5, 5});
    const Bytes good = snapshot_of(cache);
    const auto twin = Cache::restore(policy, {.page_tokens = 3}, rule, good);
    expect(twin.ok() && snapshot_of(*twin) == good, "restore", "the same bytes");
    const std::set<std::string> said = refusals(rule, good);
    for (const char* number : {"seen", "reach_first", "begin", "floor", "first_landmark", "most_landmarks", "last_seen",
                               "calls", "kept_sum", "seen_sum", "position"}) {
      const std::string start = std::string(number) + " is ";
      const auto named = said.lower_bound(start);
      expect(named != said.end() && named->starts_with(start), "refused", number);
    }
    expect(said.contains("reach_first is 21"), "refused", "reach_first after the next query");
    if (rule.has_history()) {
      expect(said.contains("floor is 0"), "refused", "floor below begin");
      expect(said.contains("floor is 20"), "refused", "another floor");
      expect(said.contains("first_landmark is 3"), "refused", "first_landmark after the initial ones");
      expect(said.contains("most_landmarks is 21"), "refused", "most_landmarks beyond the tokens");
    } else {
      expect(said.contains("first_landmark is 1"), "refused", "first_landmark of a mask");
    }
    const heed::Status small = Cache::restore(policy, {.max_tokens = 4}, rule, good).status();
    expect(small.code() == heed::StatusCode::out_of_range, "restore", "max_tokens");
  }
  const AnyRule own = Stream{{.initial = 2, .separators = 2, .local = 3, .capacity = 9, .ids = {1}}};
  Cache streamed = make(own);
  append(streamed, {2, 3, 1, 4, 1, 5, 5, 5, 1, 5, 5, 5, 1, 5, 5, 5, 5, 5, 5, 5});
  expect(refusals(own, snapshot_of(streamed)).contains("floor is 0"), "refused", "floor below begin");
  Cache marked = make(heed::Separators{0, 1, {1}});
  append(marked, Ids(10, 1));
  heed::check(marked.truncate(2));
  expect(Cache::restore(policy, {}, heed::Separators{0, 1, {1}}, snapshot_of(marked)).ok(), "restore", "rollback");
}

/// A snapshot that nobody wrote of a cache with this rule, with `bytes` bytes of rows. `numbers`: floor, first_removed,
/// reach_first, begin, then positions of far tokens. All ids are `id`; all recent tokens but the last are removed if `holes`.
heed::Status restored(const AnyRule& rule, Index seen, const std::vector<Index>& numbers, std::size_t bytes,
                      std::int32_t id = 5, bool holes = false, const heed::MemoryResource* memory = nullptr) {
  Bytes made = snapshot_of(make(rule));
  made.resize(72);
  const auto add = [&](auto number) {
    const auto* const from = reinterpret_cast<const std::byte*>(&number);
    made.insert(made.end(), from, from + sizeof number);
  };
  add(seen);
  for (std::size_t i = 0; i < 4; ++i) add(numbers[i]);
  for (const Index n : {0, 0, 1, 1}) add(n);
  for (const double sum : {1.0, 1.0}) add(sum);
  add(Index(numbers.size()) - 4);
  for (std::size_t i = 4; i < numbers.size(); ++i) {
    add(numbers[i]);
    add(id);
  }
  for (Index i = numbers[3]; i < seen; ++i) add(id);
  add(Index(holes));
  if (holes) {
    add(numbers[3]);
    add(seen - 1);
  }
  made.resize(made.size() + bytes + sizeof(std::uint32_t));
  seal(made);
  return Cache::restore(policy, {.memory = memory != nullptr ? *memory : heed::default_memory()}, rule, made).status();
}
void rules() {
  constexpr std::size_t row = 2 * sizeof(float);
  const AnyRule window = heed::SlidingWindow{4}, sinks = heed::SinkWindow{2, 4};
  const AnyRule stream = heed::SeparatorStream{.initial = 2, .separators = 2, .local = 3, .capacity = 9, .ids = {1}};
  expect(restored(window, 20, {0, -1, 20, 17}, 3 * row).ok(), "rule", "right");
  expect(!restored(window, 20, {0, -1, 20, 16}, 4 * row).ok(), "rule", "begin");
  expect(!restored(window, 20, {0, -1, 20, 18}, 2 * row).ok(), "rule", "begin too late");
  expect(restored(window, 20, {0, 20, 20, 18}, 2 * row).ok(), "rule", "begin after resume_at()");
  expect(restored(sinks, 20, {0, -1, 20, 17, 0, 1}, 5 * row).ok(), "rule", "right");
  expect(!restored(sinks, 20, {0, -1, 20, 17, 0}, 4 * row).ok(), "rule", "initial tokens");
  expect(restored(stream, 9, {0, -1, 9, 0}, 9 * row).ok(), "rule", "right");
  expect(!restored(stream, 10, {0, -1, 10, 0}, 10 * row).ok(), "rule", "a full stream");
  expect(!restored(window, 20, {0, -1, 20, 17}, 3 * row, -2).ok(), "rule", "ids");

  Index most = 0;
  const heed::MemoryResource memory{
      .context = &most,
      .allocate = [](void* largest, std::size_t bytes, std::size_t alignment) -> void* {
        *static_cast<Index*>(largest) = std::max(*static_cast<Index*>(largest), Index(bytes));
        return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
      },
      .deallocate = [](void*, void* block, std::size_t, std::size_t) { std::free(block); }};
  expect(!restored(window, 2000, {0, 0, 0, 0}, row, 5, true, &memory).ok() && most < 8192, "rule", "holes");

  Cache cache = make(heed::Anchors{.ids = {1}});
  append(cache, {5, 5, 5, 1, 5});
  heed::check(cache.remove(0, 5));
  heed::check(cache.resume_at(2));
  append(cache, {5, 5});
  heed::check(cache.truncate(2));
  expect(cache.removed(), "resume", "removed");
}

/// Edits of a snapshot of two groups that make them two texts.
void groups() {
  const std::vector<heed::LayerRule> rules{{heed::SlidingWindow{3}, {0}}, {heed::SlidingWindow{5}, {1}}};
  Cache cache = heed::value_or_throw(Cache::create(policy, {.layers = 2}, rules));
  for (const std::int32_t id : {2, 3, 4, 5, 6, 7}) {
    auto step = heed::value_or_throw(cache.begin(std::span(&id, 1)));
    const float row[] = {9};
    for (Index layer = 0; layer < 2; ++layer) heed::check(step.write(layer, row, row));
    heed::check(step.commit());
  }
  const auto edited = [&](std::size_t at, auto value) {
    Bytes bytes = snapshot_of(cache);
    std::memcpy(bytes.data() + at, &value, sizeof value);
    seal(bytes);
    return Cache::restore(policy, {.layers = 2}, rules, bytes).status();
  };
  expect(edited(72, Index{6}).ok(), "groups", "right");
  expect(!edited(168 + 4, std::int32_t{8}).ok(), "groups", "ids");
  expect(!edited(136, Index{7}).ok(), "groups", "commits");
  heed::check(cache.remove(4, 5));
  const Bytes holed = snapshot_of(cache);
  expect(Cache::restore(policy, {.layers = 2}, rules, holed).ok(), "groups", "holes");
  // The first group's hole is one token later than the second's.
  Bytes bytes = holed;
  const Index hole[] = {5, 6};
  std::memcpy(bytes.data() + 168 + 2 * 4 + 8, hole, sizeof hole);
  seal(bytes);
  expect(!Cache::restore(policy, {.layers = 2}, rules, bytes).ok(), "groups", "removed");

  // What was removed is not in a snapshot.
  Cache one = make(heed::SlidingWindow{9}), other = make(heed::SlidingWindow{9});
  append(one, {2, 3, 4});
  append(other, {2, 3, 4});
  heed::check(other.truncate(1));
  const std::int32_t ids[] = {3, 4};
  auto step = heed::value_or_throw(other.begin(ids));
  const float rows[] = {77, 2};
  heed::check(step.write(0, rows, rows));
  heed::check(step.commit());
  for (Cache* const each : {&one, &other}) heed::check(each->remove(1, 2));
  const Bytes a = snapshot_of(one), b = snapshot_of(other);
  const float secret = 77;
  const auto* const text = reinterpret_cast<const std::byte*>(&secret);
  expect(a.size() == b.size() && std::search(b.begin(), b.end(), text, text + sizeof secret) == b.end(), "holes",
         "removed rows are zeros");
}

void moves() {
  Cache cache = make(heed::Separators{1, 4, {1}});
  append(cache, {2, 3, 1, 4, 1, 5, 5, 5});
  const Cache::Keys view = cache.keys(0);
  Cache moved(std::move(cache));
  expect(view.readable(false).ok(), "move", "a view follows its cache");
  expect(cache.layers() == 0, "move", "what was moved from has no layers");  // NOLINT(bugprone-use-after-move)
  Cache assigned = make(heed::Causal{});
  assigned = std::move(moved);
  expect(view.readable(false).ok(), "move", "a view follows its cache");
}

// --- keys of a cache under a mask of somebody else --------------------------------------------------------------------------

/// A policy whose layout may claim another width than its view has.
struct Claims {
  Index key_width = 1;
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  [[nodiscard]] heed::Status validate() const { return {}; }
  [[nodiscard]] heed::AttentionLayout layout() const {
    heed::AttentionLayout made = policy.layout();
    made.key_width = key_width;
    return made;
  }
  [[nodiscard]] heed::Identity query_map() const { return {}; }
  [[nodiscard]] heed::Identity output_map() const { return {}; }
  [[nodiscard]] heed::Identity preparation() const { return {}; }
};

void masks() {
  const heed::Separators rule{.initial = 0, .window = 4, .ids = {7}};
  Cache cache = heed::value_or_throw(Cache::create(policy, {.undo_tokens = 100}, rule));
  Ids ids(30, 3);
  ids[10] = 7;
  append(cache, ids);
  heed::check(cache.remove(10, 11));
  const auto mask = heed::value_or_throw(heed::RuleMask::create(rule, ids));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  const std::vector<float> q(2, 0.0f);
  std::vector<float> out(1);
  const std::span<const float> one = std::span(q).first(1);
  const heed::Status seen = heed::attend<heed::Scalar>(policy, one, cache.keys(0), mask.mask(), out, workspace, serial);
  expect(seen.ok() && out[0] == (26.0f + 27 + 28 + 29) / 4, "masks", "a removed landmark is hidden");
  const Claims wide{.key_width = 2};
  const float rows[] = {1, 2, 3, 4};
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows), 4, 4, 4};
  expect(!heed::attend<heed::Scalar>(wide, q, heed::StridedSource<heed::F32>(2, stream, stream), heed::Causal{}, out,
                                     workspace, serial)
              .ok(),
         "masks", "widths agree");
}

// --- states -----------------------------------------------------------------------------------------------------------

void states() {
  const heed::RecurrentOptions options{.layers = 1, .width = 2, .undo_tokens = 2};
  auto state = heed::value_or_throw(heed::RecurrentState::create(options));
  for (int token = 1; token <= 3; ++token) {
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(1)));
    const heed::RecurrentLayer layer = heed::value_or_throw(step.layer(0));
    layer.after(0)[0] = layer.after(0)[1] = float(token);
    expect(layer.after(1) == nullptr, "state", "no token beyond the step");
    heed::check(step.commit());
  }
  expect(state.state(1).empty() && state.state(-1).empty(), "state", "no layer beyond the last");
  const Bytes good = snapshot_of(state);
  Bytes longer = good;
  longer.resize(good.size() + 8);
  seal(longer);
  expect(!heed::RecurrentState::restore(options, longer).ok(), "state", "length");
  Bytes earlier = good;
  const Index seen = 2;  // as many tokens as states before the last
  std::memcpy(earlier.data() + 40, &seen, sizeof seen);
  seal(earlier);
  expect(!heed::RecurrentState::restore(options, earlier).ok(), "state", "nothing was seen, but the state is not zero");
  const heed::RecurrentState moved(std::move(state));
  expect(!state.clear().ok(), "state", "what was moved from says so");  // NOLINT(bugprone-use-after-move)
}

}  // namespace

int main() {
  caches();
  rules();
  groups();
  moves();
  masks();
  states();
  return killer::failures == 0 ? 0 : 1;
}
