/// \file
/// A cache as bytes: what KvCache::snapshot() writes and restore() reads.
///
///     magic "heed-kv" and 0, version u32, byte-order mark u32, number of bytes u64, fingerprint u64,
///     names of key and value codec (16 bytes each), number of layer groups u64,
///     per group: the index's numbers and counters, ids, far tokens, reaches, then far rows and near rows of every
///     (layer, stream, head), encoded and without padding;  CRC-32 u32 of all before
///
/// Numbers are in the machine's byte order; another one is refused. Pages, capacity and memory are not part of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>

#include <heed/cache/bytes.hpp>
#include <heed/cache/layer_group.hpp>
#include <heed/cache/snapshot_io.hpp>

namespace heed::inline HEED_ABI::detail {

inline constexpr SnapshotMagic snapshot_magic{'h', 'e', 'e', 'd', '-', 'k', 'v', 0};
inline constexpr std::uint32_t snapshot_version = 1;

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
/// Nothing but the checksum may be left.
[[nodiscard]] inline Status check_end(const SnapshotReader& reader) {
  constexpr std::size_t crc = sizeof(std::uint32_t);
  if (reader.left() == crc) return {};
  return fail(StatusCode::invalid_argument, "snapshot: it has ", reader.left(), " bytes behind its rows, must have ",
              crc);
}

/// Calls body(table, slot) for every row that is held, in order.
template <class Group, class Body>
void for_each_row(Group& group, const Body& body) {
  for (Index slot = 0; slot < group.index.held(); ++slot) body(group.far, slot);
  for (Index slot = group.index.near_begin(); slot < group.index.seen(); ++slot) body(group.near, slot);
}

inline void write_group(SnapshotWriter& writer, const LayerGroup& group, const RetentionCounters& counters) noexcept {
  const TokenIndex& index = group.index;
  writer.number(index.state());
  writer.number(counters.last_seen);
  writer.number(counters.calls);
  writer.number(counters.kept_sum);
  writer.number(counters.seen_sum);
  writer.number(Index(index.near_ids().size()));
  writer.bytes(index.near_ids().data(), index.near_ids().size_bytes());
  writer.number(Index(index.far_tokens().size()));
  for (const FarToken& token : index.far_tokens()) {
    writer.number(token.position);
    writer.number(token.id);
    writer.number(std::uint32_t(token.role));
  }
  writer.number(Index(index.reaches().size()));
  for (const Reach& reach : index.reaches()) {
    for (const Index n : {reach.begin, reach.first_landmark, reach.end_landmark, reach.most_landmarks})
      writer.number(n);
    writer.number(Index(reach.blind));
  }
  const PageLayout& layout = group.near.layout();
  layout.for_each_head([&](Index layer, int stream, Index head) {
    for_each_row(group, [&](const PageTable& table, Index slot) {
      writer.bytes(table.row(layer, stream, head, slot), std::size_t(layout.row_bytes(stream)));
    });
  });
}

/// Fills an empty group, or says what is wrong; the group is then useless.
[[nodiscard]] inline Status read_group(SnapshotReader& reader, const MemoryResource& memory, LayerGroup& group,
                                       RetentionCounters& counters) {
  const auto short_of = [](const char* what) {
    return fail(StatusCode::invalid_argument, "snapshot: it ends before its ", what);
  };
  const auto state = reader.number<TokenState>();
  counters.last_seen = reader.number<Index>();
  counters.calls = reader.number<Index>();
  counters.kept_sum = reader.number<double>();
  counters.seen_sum = reader.number<double>();
  SlidingArray<std::int32_t> ids;
  SlidingArray<FarToken> far;
  SlidingArray<Reach> reach;
  const Index num_ids = reader.count(sizeof(std::int32_t));
  if (Status status = ids.reserve_back(memory, num_ids); !status.ok()) return status;
  for (Index i = 0; i < num_ids; ++i) ids.push_back(reader.number<std::int32_t>());
  const Index num_far = reader.count(2 * sizeof(Index));
  if (Status status = far.reserve_back(memory, num_far); !status.ok()) return status;
  for (Index i = 0; i < num_far; ++i) {
    const auto position = reader.number<Index>();
    const auto id = reader.number<std::int32_t>();
    const auto role = reader.number<std::uint32_t>();
    far.push_back({position, id, Role(std::min<std::uint32_t>(role, 255))});
  }
  const Index num_reach = reader.count(5 * sizeof(Index));
  if (Status status = reach.reserve_back(memory, num_reach); !status.ok()) return status;
  for (Index i = 0; i < num_reach; ++i) {
    Reach r;
    r.begin = reader.number<Index>();
    r.first_landmark = reader.number<Index>();
    r.end_landmark = reader.number<Index>();
    r.most_landmarks = reader.number<Index>();
    r.blind = reader.number<Index>() != 0;
    reach.push_back(r);
  }
  if (!reader.complete()) return short_of("index");
  if (Status status = group.index.restore(memory, state, ids.span(), far.span(), reach.span()); !status.ok()) {
    return status;
  }
  // Before rows are allocated: a few bytes must not ask for a terabyte.
  const PageLayout& layout = group.near.layout();
  Index rows = 0;
  if (__builtin_mul_overflow(group.index.kept(), layout.encoded_token_bytes(), &rows) ||
      std::size_t(rows) > reader.left()) {
    return short_of("rows");
  }
  Status status = group.far.make_writable(0, group.index.held(), {});
  if (status.ok()) status = group.near.make_writable(group.index.near_begin(), group.index.seen(), {});
  if (!status.ok()) return status;
  layout.for_each_head([&](Index layer, int stream, Index head) {
    for_each_row(group, [&](PageTable& table, Index slot) {
      const auto bytes = std::size_t(layout.row_bytes(stream));
      std::memcpy(table.row(layer, stream, head, slot), reader.bytes(bytes), bytes);
    });
  });
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
