/// \file
/// Snapshots with a correct envelope and wrong numbers inside.
#pragma once

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

}  // namespace heed_fuzz
