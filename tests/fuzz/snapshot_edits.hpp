/// \file
/// Snapshots with a correct envelope and wrong numbers inside.
#pragma once

#include <array>
#include <utility>
#include <vector>

#include <heed/cache/snapshot_io.hpp>

#include "fuzz/bytes.hpp"

namespace heed_fuzz {

/// Mends the number of bytes in the header (behind magic, version and byte order) and the checksum at the end.
inline void close_snapshot(std::vector<std::byte>& snapshot) {
  constexpr std::size_t size_at = 16, crc = sizeof(std::uint32_t);
  if (snapshot.size() < size_at + sizeof(std::uint64_t) + crc) return;
  const std::uint64_t size = snapshot.size();
  std::memcpy(snapshot.data() + size_at, &size, sizeof size);
  const std::uint32_t sum = heed::detail::crc32(std::span(snapshot).first(snapshot.size() - crc));
  std::memcpy(snapshot.data() + snapshot.size() - crc, &sum, crc);
}

/// Changes numbers, cuts, and repeats bytes as `in` says, then closes the envelope.
inline void edit_snapshot(std::vector<std::byte>& snapshot, Bytes& in) {
  for (int edits = int(in.pick(0, 6)); edits > 0 && !snapshot.empty(); --edits) {
    const auto at = std::size_t(in.number<std::uint16_t>()) % snapshot.size();
    switch (in.pick(0, 5)) {
      case 0: snapshot[at] = std::byte(in.number<std::uint8_t>()); break;
      case 1: {
        snapshot.resize(at);
        break;
      }
      case 2: {
        const std::size_t count = std::min<std::size_t>(snapshot.size() - at, in.number<std::uint8_t>());
        const std::vector<std::byte> copy(snapshot.begin() + std::ptrdiff_t(at),
                                          snapshot.begin() + std::ptrdiff_t(at + count));
        snapshot.insert(snapshot.begin() + std::ptrdiff_t(at), copy.begin(), copy.end());
        break;
      }
      case 3: {  // a number of the index a little larger or smaller
        if (snapshot.size() < at + 8) break;
        std::int64_t value = 0;
        std::memcpy(&value, snapshot.data() + at, 8);
        value = std::int64_t(std::uint64_t(value) + std::uint64_t(in.pick(-3, 3)));
        std::memcpy(snapshot.data() + at, &value, 8);
        break;
      }
      default: {
        if (snapshot.size() < at + 8) break;
        const std::int64_t value = in.extreme();
        std::memcpy(snapshot.data() + at, &value, 8);
      }
    }
  }
  close_snapshot(snapshot);
}

/// What a KvCache's snapshot says of a layer group.
struct GroupFields {
  /// floor, first_removed, reach_first, begin, first_landmark, most_landmarks; last_seen, calls
  std::array<std::int64_t, 8> numbers{};
  std::array<double, 2> sums{};
  std::vector<std::pair<std::int64_t, std::int32_t>> distant;
  std::vector<std::int32_t> ids;
  std::vector<std::pair<std::int64_t, std::int64_t>> holes;
  std::vector<std::byte> rows;
};
/// The same of the whole snapshot: its numbers can be changed so that they agree with each other.
struct SnapshotFields {
  std::vector<std::byte> head;
  std::int64_t seen = 0;
  std::vector<GroupFields> groups;

  /// Of a good snapshot; `slot_bytes`: of a token's rows in one group.
  SnapshotFields(const std::vector<std::byte>& snapshot, std::size_t num_groups, std::size_t slot_bytes)
      : head(snapshot.begin(), snapshot.begin() + 72), groups(num_groups) {
    heed::detail::SnapshotReader reader(std::span<const std::byte>(snapshot).subspan(72));
    seen = reader.number<std::int64_t>();
    for (GroupFields& group : groups) {
      group.numbers = reader.number<std::array<std::int64_t, 8>>();
      group.sums = reader.number<std::array<double, 2>>();
      group.distant.resize(reader.number<std::uint64_t>());
      for (auto& [position, id] : group.distant) {
        position = reader.number<std::int64_t>();
        id = reader.number<std::int32_t>();
      }
      group.ids.resize(std::size_t(seen - group.numbers[3]));
      for (std::int32_t& id : group.ids) id = reader.number<std::int32_t>();
      group.holes.resize(reader.number<std::uint64_t>());
      for (auto& [begin, end] : group.holes) {
        begin = reader.number<std::int64_t>();
        end = reader.number<std::int64_t>();
      }
      const std::size_t bytes = (group.distant.size() + group.ids.size()) * slot_bytes;
      const std::byte* const from = reader.bytes(bytes);
      if (bytes > 0) group.rows.assign(from, from + bytes);
    }
    FUZZ_CHECK(reader.complete() && reader.left() == sizeof(std::uint32_t));
  }
  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> made = head;
    const auto add = [&](const auto& number) {
      const auto* const from = reinterpret_cast<const std::byte*>(&number);
      made.insert(made.end(), from, from + sizeof number);
    };
    add(seen);
    for (const GroupFields& group : groups) {
      add(group.numbers);
      add(group.sums);
      add(std::uint64_t(group.distant.size()));
      for (const auto& [position, id] : group.distant) add(position), add(id);
      for (const std::int32_t id : group.ids) add(id);
      add(std::uint64_t(group.holes.size()));
      for (const auto& [begin, end] : group.holes) add(begin), add(end);
      made.insert(made.end(), group.rows.begin(), group.rows.end());
    }
    made.resize(made.size() + sizeof(std::uint32_t));
    close_snapshot(made);
    return made;
  }
};

/// Changes fields as `in` says; as many ids and rows follow as the other fields ask for, or nearly.
inline void edit_fields(SnapshotFields& fields, std::size_t slot_bytes, Bytes& in) {
  const auto changed = [&](std::int64_t was) {
    if (in.one_in(8)) return in.extreme();
    return std::int64_t(std::uint64_t(was) + std::uint64_t(in.pick(-3, 3)));
  };
  for (int edits = int(in.pick(1, 5)); edits > 0; --edits) {
    GroupFields& group = fields.groups[std::size_t(in.pick(0, std::int64_t(fields.groups.size()) - 1))];
    switch (in.pick(0, 8)) {
      case 0: fields.seen = changed(fields.seen); break;
      case 1: {  // all that counts tokens moves on
        const std::int64_t by = in.one_in(8) ? in.extreme() : in.pick(-4, 400);
        const auto move = [by](std::int64_t& n) { n = std::int64_t(std::uint64_t(n) + std::uint64_t(by)); };
        move(fields.seen);
        for (GroupFields& g : fields.groups) {
          move(g.numbers[2]);
          if (in.one_in(2)) move(g.numbers[0]), move(g.numbers[3]);
        }
        break;
      }
      case 2: {
        if (group.distant.empty()) break;
        auto& [position, id] = group.distant[std::size_t(in.number<std::uint8_t>()) % group.distant.size()];
        if (in.one_in(3)) id = std::int32_t(in.extreme());
        position = changed(position);
        break;
      }
      case 3: {
        const std::size_t at = std::size_t(in.number<std::uint8_t>()) % (group.distant.size() + 1);
        const auto place = group.distant.begin() + std::ptrdiff_t(at);
        if (in.one_in(2) && at < group.distant.size()) {
          group.distant.erase(place);
        } else {
          group.distant.insert(place, {in.pick(0, 30), std::int32_t(in.pick(-1, 6))});
        }
        break;
      }
      case 4: {
        const std::int64_t begin = in.pick(0, 60), end = in.one_in(4) ? fields.seen : begin + in.pick(0, 8);
        group.holes.insert(in.one_in(2) ? group.holes.begin() : group.holes.end(), {begin, end});
        if (in.one_in(2)) group.numbers[1] = in.pick(-1, 60);
        break;
      }
      case 5: {
        if (!group.holes.empty()) group.holes.pop_back();
        break;
      }
      case 6: {
        double& sum = group.sums[std::size_t(in.pick(0, 1))];
        const auto bits = in.number<std::uint64_t>();
        std::memcpy(&sum, &bits, sizeof sum);
        break;
      }
      default: {
        std::int64_t& number = group.numbers[std::size_t(in.pick(0, 7))];
        number = in.one_in(3) ? group.numbers[std::size_t(in.pick(0, 7))] : changed(number);
      }
    }
  }
  for (GroupFields& group : fields.groups) {
    const std::int64_t tokens =
        std::clamp<std::int64_t>(fields.seen, -1, 2000) - std::max<std::int64_t>(group.numbers[3], 0);
    const std::size_t before = group.ids.size();
    group.ids.resize(std::size_t(std::max<std::int64_t>(0, tokens)));
    for (std::size_t i = before; i < group.ids.size(); ++i) group.ids[i] = std::int32_t(in.pick(0, 6));
    if (in.one_in(8)) continue;  // rows of as many slots as before
    group.rows.resize((group.distant.size() + group.ids.size()) * slot_bytes);
  }
}

}  // namespace heed_fuzz
