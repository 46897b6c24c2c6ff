/// \file
/// A cache as bytes: what KvCache::snapshot() writes and restore() reads.
///
///     header        magic "heed-kv" and 0, version u32, byte-order mark u32, number of bytes u64, fingerprint u64,
///                   names of key and value codec (16 bytes each), number of layer groups u64, tokens seen u64
///     every group   floor, first_removed, reach_first, begin, first_landmark, most_landmarks of TokenRecord (i64);
///                   last_seen and calls (i64), kept_sum and seen_sum (f64) of RetentionCounters;
///                   number of far tokens u64, their positions (i64) and ids (i32); ids of the near tokens (i32);
///                   number of holes u64, their begins and ends (i64);
///                   far rows and near rows of every (layer, stream, head), encoded, without padding, zeros for holes
///     end           CRC-32 u32 of all bytes before it
///
/// Numbers are in the machine's byte order; a snapshot in another order is refused. Pages, capacity and memory are not
/// part of it. What can be derived from these numbers and the rule is not stored, so it cannot contradict them.
///
/// Every slot has a row, also a hole. So restoring never needs much more memory than the snapshot has bytes.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>

#include <heed/cache/bytes.hpp>
#include <heed/cache/layer_group.hpp>
#include <heed/cache/snapshot_io.hpp>
#include <heed/checked.hpp>

namespace heed::inline HEED_ABI::detail {

inline constexpr SnapshotMagic snapshot_magic{'h', 'e', 'e', 'd', '-', 'k', 'v', 0};
inline constexpr std::uint32_t snapshot_version = 3;

/// Names of the codecs of keys and values.
struct SnapshotCodecs {
  using Name = std::array<char, 16>;
  Name keys{};
  Name values{};

  SnapshotCodecs() = default;
  SnapshotCodecs(const char* key_codec, const char* value_codec) noexcept {
    std::strncpy(keys.data(), key_codec, keys.size() - 1);
    std::strncpy(values.data(), value_codec, values.size() - 1);
  }
  [[nodiscard]] std::string text() const {
    const auto end = [](const Name& name) { return std::find(name.begin(), name.end(), char(0)); };
    return std::string(keys.begin(), end(keys)) + " and " + std::string(values.begin(), end(values));
  }
  friend bool operator==(const SnapshotCodecs&, const SnapshotCodecs&) = default;
};

/// Returns where the number of bytes goes.
inline std::size_t write_header(SnapshotWriter& writer, std::uint64_t fingerprint, const SnapshotCodecs& codecs,
                                std::size_t groups) noexcept {
  const std::size_t size_at = begin_snapshot(writer, snapshot_magic, snapshot_version);
  writer.number(fingerprint);
  writer.number(codecs.keys);
  writer.number(codecs.values);
  writer.number(std::uint64_t(groups));
  return size_at;
}

/// Reads what write_header() wrote, and checks it and the checksum of the whole.
[[nodiscard]] inline Status read_header(SnapshotReader& reader, std::span<const std::byte> whole,
                                        std::uint64_t fingerprint, const SnapshotCodecs& codecs, std::size_t groups) {
  if (Status status = open_snapshot(reader, whole, snapshot_magic, snapshot_version); !status.ok()) return status;
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, "snapshot: ", parts...); };
  const auto made_by = reader.number<std::uint64_t>();
  SnapshotCodecs stored;
  stored.keys = reader.number<SnapshotCodecs::Name>();
  stored.values = reader.number<SnapshotCodecs::Name>();
  if (!(stored == codecs)) return bad("its codecs are ", stored.text(), ", the cache's ", codecs.text());
  if (made_by != fingerprint) {
    return bad("it was made by a cache of another shape, rule, positions, undo_tokens or model_id");
  }
  if (reader.number<std::uint64_t>() != groups) return bad("its layer groups are others");
  return {};
}
/// invalid_argument if bytes are left.
[[nodiscard]] inline Status check_end(const SnapshotReader& reader) {
  if (reader.left() == 0) return {};
  return fail(StatusCode::invalid_argument, "snapshot: it has ", reader.left(), " bytes behind its rows");
}

inline constexpr Index snapshot_far_bytes = Index(sizeof(Index) + sizeof(std::int32_t));
inline constexpr Index snapshot_id_bytes = Index(sizeof(std::int32_t));

inline void write_group(SnapshotWriter& writer, const LayerGroup& group, const RetentionCounters& counters) noexcept {
  const TokenIndex& index = group.index;
  const TokenRecord record = index.record();
  for (const Index number : {record.floor, record.first_removed, record.reach_first, record.begin,
                             record.first_landmark, record.most_landmarks, counters.last_seen, counters.calls}) {
    writer.number(number);
  }
  writer.number(counters.kept_sum);
  writer.number(counters.seen_sum);
  writer.number(index.far_slots());
  writer.part(Count(index.far_slots()) * snapshot_far_bytes, [&] {
    const BlockSpan<FarToken> far_tokens = index.far_tokens();
    for (Index i = 0; i < index.far_slots(); ++i) {
      writer.number(far_tokens[i].position);
      writer.number(far_tokens[i].id);
    }
  });
  writer.part(Count(index.near_ids().size()) * snapshot_id_bytes, [&] {
    index.near_ids().for_each_run(
        [&](std::span<const std::int32_t> run) { writer.bytes(run.data(), run.size_bytes()); });
  });
  writer.number(index.holes().size());
  for (const HoleList::Hole& hole : index.holes().holes()) {
    writer.number(hole.begin);
    writer.number(hole.end);
  }
  const PageLayout& layout = group.near_rows.layout();
  writer.part(Count(index.slots()) * layout.encoded_token_bytes(), [&] {
    layout.for_each_head([&](Index layer, int stream, Index head) {
      const auto bytes = std::size_t(layout.row_bytes(stream)), entry = std::size_t(layout.factor_bytes(stream));
      const auto write = [&](const PageTable& table, Index slot) {  // a row, then its factors
        writer.bytes(table.row(layer, stream, head, slot), bytes);
        if (entry > 0) writer.bytes(table.factors(layer, stream, head, slot), entry);
      };
      for (Index slot = 0; slot < index.far_slots(); ++slot) write(group.far_rows, slot);
      for (Index position = index.near_begin(); position < index.seen();) {
        const Interval hole = index.holes().next(position);
        for (; position < std::min(hole.begin, index.seen()); ++position) write(group.near_rows, position);
        if (position == index.seen()) break;
        writer.zeros(std::size_t(hole.size()) * (bytes + entry));
        position = hole.end;
      }
    });
  });
}

/// invalid_argument unless commits may have counted so. `calls` is bounded so that it can go on counting.
[[nodiscard]] inline Status check_counters(const RetentionCounters& c, Index seen) {
  constexpr auto most = double(most_tokens);
  if (c.calls < 0 || c.calls > most_tokens || (c.calls == 0) != (seen == 0)) return bad_snapshot("calls", c.calls);
  if (c.last_seen < 0 || c.last_seen > most_tokens || (c.calls == 0 && c.last_seen != 0)) {
    return bad_snapshot("last_seen", c.last_seen);
  }
  // A NaN fails these comparisons.
  if (!(c.seen_sum >= 0 && c.seen_sum <= double(c.calls) * most)) {
    return fail(StatusCode::invalid_argument, "snapshot: seen_sum is ", c.seen_sum);
  }
  if (!(c.kept_sum >= 0 && c.kept_sum <= c.seen_sum)) {
    return fail(StatusCode::invalid_argument, "snapshot: kept_sum is ", c.kept_sum);
  }
  return {};
}

/// Fills the index of an empty group that has seen `seen` tokens, each of `token_bytes` bytes of rows.
[[nodiscard]] inline Status read_index(SnapshotReader& reader, const MemoryResource& memory, Index seen,
                                       Index token_bytes, TokenIndex& index, RetentionCounters& counters) {
  TokenRecord record{.seen = seen};
  for (Index* const number : {&record.floor, &record.first_removed, &record.reach_first, &record.begin,
                              &record.first_landmark, &record.most_landmarks, &counters.last_seen, &counters.calls}) {
    *number = reader.number<Index>();
  }
  counters.kept_sum = reader.number<double>();
  counters.seen_sum = reader.number<double>();
  const Index num_far = reader.count(std::size_t(snapshot_far_bytes));
  if (Status status = check_record(record, index.rule()); !status.ok()) return status;
  // Before anything is allocated: a few bytes must not ask for a terabyte.
  const Index num_ids = seen - record.begin;
  const Count tokens = Count(num_far) * snapshot_far_bytes + Count(num_ids) * snapshot_id_bytes;
  if (!reader.complete() || !reader.has(tokens)) {
    return fail(StatusCode::invalid_argument, "snapshot: it ends before its index");
  }
  if (!reader.has(tokens + (Count(num_far) + num_ids) * token_bytes)) {
    return fail(StatusCode::invalid_argument, "snapshot: it ends before its rows");
  }
  SlidingArray<FarToken> far_rows;
  SlidingArray<std::int32_t> ids;
  if (Status status = far_rows.reserve_exactly(memory, num_far); !status.ok()) return status;
  for (Index i = 0; i < num_far; ++i) {
    const auto position = reader.number<Index>();
    far_rows.push_back({position, reader.number<std::int32_t>()});
  }
  if (Status status = ids.reserve_exactly(memory, num_ids); !status.ok()) return status;
  for (Index i = 0; i < num_ids; ++i) ids.push_back(reader.number<std::int32_t>());
  SlidingArray<Interval> holes;
  const Index num_holes = reader.count(2 * sizeof(Index));
  if (Status status = holes.reserve_exactly(memory, num_holes); !status.ok()) return status;
  for (Index i = 0; i < num_holes; ++i) {
    const auto begin = reader.number<Index>();
    holes.push_back({begin, reader.number<Index>()});
  }
  if (!reader.complete()) return fail(StatusCode::invalid_argument, "snapshot: it ends before its index");
  if (Status status = check_counters(counters, seen); !status.ok()) return status;
  return index.restore(memory, record, far_rows.span(), ids.span(), holes.span());
}

/// Pages for these slots of an empty table, and none to spare, or out_of_memory.
[[nodiscard]] inline Status make_rows(PageTable& table, Interval slots) {
  const Index tokens = table.layout().tokens();
  return table.make_writable(slots.begin, slots.end, {}, (slots.end - 1) / tokens - slots.begin / tokens + 1);
}

/// Fills an empty group. invalid_argument saying what is wrong, out_of_range if it would hold more than `max_tokens`
/// tokens, out_of_memory; the group must not be used then.
[[nodiscard]] inline Status read_group(SnapshotReader& reader, const MemoryResource& memory, Index seen,
                                       Index max_tokens, LayerGroup& group, RetentionCounters& counters) {
  const PageLayout& layout = group.near_rows.layout();
  const TokenIndex& index = group.index;
  Status status = read_index(reader, memory, seen, layout.encoded_token_bytes(), group.index, counters);
  if (!status.ok()) return status;
  const Index kept = index.kept();
  if (kept > max_tokens) {
    return fail(StatusCode::out_of_range, "snapshot: it holds ", kept, " tokens, but max_tokens is ", max_tokens);
  }
  // Counted by slots, because holes also have rows.
  if (!reader.has(Count(index.slots()) * layout.encoded_token_bytes())) {
    return fail(StatusCode::invalid_argument, "snapshot: it ends before its rows");
  }
  status = make_rows(group.far_rows, {0, index.far_slots()});
  if (status.ok()) status = make_rows(group.near_rows, {index.near_begin(), index.seen()});
  if (!status.ok()) return status;
  layout.for_each_head([&](Index layer, int stream, Index head) {
    const auto bytes = std::size_t(layout.row_bytes(stream)), entry = std::size_t(layout.factor_bytes(stream));
    const auto read = [&](PageTable& table, Interval slots) {
      for (Index slot = slots.begin; slot < slots.end; ++slot) {
        std::memcpy(table.row(layer, stream, head, slot), reader.bytes(bytes), bytes);
        if (entry > 0) std::memcpy(table.factors(layer, stream, head, slot), reader.bytes(entry), entry);
      }
    };
    read(group.far_rows, {0, index.far_slots()});
    read(group.near_rows, {index.near_begin(), index.seen()});
  });
  return {};
}

/// Adds the tokens that a group keeps to those of others, ascending. invalid_argument if the same position has two ids.
[[nodiscard]] inline Status merge_tokens(const MemoryResource& memory, const TokenIndex& index,
                                         SlidingArray<FarToken>& text) {
  SlidingArray<FarToken> merged;
  if (Status status = merged.reserve_exactly(memory, text.size() + index.kept()); !status.ok()) return status;
  Index other = 0;
  for (Index key = 0; key < index.kept(); ++key) {
    const FarToken token{index.position(key), index.token_id(key)};
    while (other < text.size() && text[other].position < token.position) merged.push_back(text[other++]);
    if (other < text.size() && text[other].position == token.position) {
      if (text[other++].id != token.id) return bad_snapshot("token id of another layer group", token.id);
    }
    merged.push_back(token);
  }
  while (other < text.size()) merged.push_back(text[other++]);
  text = std::move(merged);
  return {};
}
/// invalid_argument unless all groups are of one text: the same number of commits, the same ids, and the same tokens
/// removed by the caller.
[[nodiscard]] inline Status check_one_text(const MemoryResource& memory, std::span<const LayerGroup> groups,
                                           std::span<const RetentionCounters> counters) {
  if (groups.size() < 2) return {};
  SlidingArray<FarToken> text;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (counters[g].calls != counters[0].calls) return bad_snapshot("calls", counters[g].calls);
    if (!(counters[g].seen_sum == counters[0].seen_sum)) {
      return fail(StatusCode::invalid_argument, "snapshot: seen_sum is ", counters[g].seen_sum);
    }
    if (Status status = merge_tokens(memory, groups[g].index, text); !status.ok()) return status;
  }
  for (const LayerGroup& group : groups) {
    // Nothing is evicted from the near run, or by a rule that keeps everything.
    const Index begin = group.index.forgets_by() == nullptr ? 0 : group.index.near_begin();
    for (const FarToken& token : text.span()) {
      if (token.position >= begin && group.index.first_kept(token.position) != token.position) {
        return bad_snapshot("position of a removed token", token.position);
      }
    }
  }
  return {};
}

/// Writes all groups to `to`, or only counts if that is null. Returns the bytes.
inline std::size_t write_groups(std::byte* to, std::uint64_t fingerprint, const SnapshotCodecs& codecs,
                                std::span<const LayerGroup> groups, std::span<const RetentionCounters> counters) {
  SnapshotWriter writer(to);
  const std::size_t size_at = write_header(writer, fingerprint, codecs, groups.size());
  writer.number(groups.empty() ? Index{0} : groups[0].index.seen());
  for (std::size_t g = 0; g < groups.size(); ++g) write_group(writer, groups[g], counters[g]);
  return finish_snapshot(writer, size_at, to);
}
/// Fills empty groups. Errors as of read_group(); the groups must not be used then.
[[nodiscard]] inline Status read_groups(std::span<const std::byte> from, std::uint64_t fingerprint,
                                        const SnapshotCodecs& codecs, const MemoryResource& memory, Index max_tokens,
                                        std::span<LayerGroup> groups, std::span<RetentionCounters> counters) {
  SnapshotReader reader(from);
  Status status = read_header(reader, from, fingerprint, codecs, groups.size());
  if (!status.ok()) return status;
  const auto seen = reader.number<Index>();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (status = read_group(reader, memory, seen, max_tokens, groups[g], counters[g]); !status.ok()) return status;
  }
  status = check_end(reader);
  return status.ok() ? check_one_text(memory, groups, counters) : status;
}

}  // namespace heed::inline HEED_ABI::detail
