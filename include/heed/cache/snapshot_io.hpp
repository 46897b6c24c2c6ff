/// \file
/// Parts of every snapshot: writing numbers in turn, reading untrusted bytes in turn, and the envelope around them.
///
///     magic (8 bytes), version u32, byte-order mark u32, number of bytes u64, ..., CRC-32 u32 of all before
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include <heed/checked.hpp>
#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

using SnapshotMagic = std::array<char, 8>;
inline constexpr std::uint32_t snapshot_byte_order = 0x01020304;

/// CRC-32 (ISO 3309, as in zlib).
[[nodiscard]] inline std::uint32_t crc32(std::span<const std::byte> bytes) noexcept {
  static constexpr auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t x = i;
      for (int bit = 0; bit < 8; ++bit) x = (x >> 1) ^ ((x & 1) != 0 ? 0xedb88320u : 0);
      made[i] = x;
    }
    return made;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (const std::byte b : bytes) crc = (crc >> 8) ^ table[(crc ^ std::uint32_t(b)) & 0xff];
  return ~crc;
}

/// Writes to `to`, or only counts if that is null.
class SnapshotWriter {
 public:
  explicit SnapshotWriter(std::byte* to) noexcept : to_(to) {}

  void bytes(const void* from, std::size_t count) noexcept {
    if (to_ != nullptr && count > 0) std::memcpy(to_ + size_, from, count);
    size_ += count;
  }
  void zeros(std::size_t count) noexcept {
    if (to_ != nullptr) std::memset(to_ + size_, 0, count);
    size_ += count;
  }
  /// Calls body(), which writes `count` bytes, or only counts them.
  template <class Body>
  void part(Count count, const Body& body) noexcept {
    if (to_ != nullptr) return body();
    size_ += std::size_t(count.value());
  }
  template <class T>
    requires std::is_trivially_copyable_v<T>
  void number(const T& value) noexcept { bytes(&value, sizeof value); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::byte* to_;
  std::size_t size_ = 0;
};

/// Reads untrusted bytes. Beyond their end it returns zeros, and complete() becomes false.
class SnapshotReader {
 public:
  explicit SnapshotReader(std::span<const std::byte> from) noexcept : left_(from) {}

  [[nodiscard]] const std::byte* bytes(std::size_t count) noexcept {
    if (count > left_.size()) {
      complete_ = false;
      left_ = {};
      return nullptr;
    }
    const std::byte* at = left_.data();
    left_ = left_.subspan(count);
    return at;
  }
  template <class T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] T number() noexcept {
    T value{};
    if (const std::byte* from = bytes(sizeof value)) std::memcpy(&value, from, sizeof value);
    return value;
  }
  /// How many entries follow, of at least `entry_bytes` each: no more than there are bytes for.
  [[nodiscard]] Index count(std::size_t entry_bytes) noexcept { return fits(number<Index>(), entry_bytes); }
  /// `n` if the remaining bytes can hold n entries, else 0.
  [[nodiscard]] Index fits(Index n, std::size_t entry_bytes) noexcept {
    if (n < 0 || std::uint64_t(n) > left_.size() / entry_bytes) {  // not as a size_t, which may have 32 bits
      complete_ = false;
      return 0;
    }
    return n;
  }
  /// Removes the last `count` bytes.
  void drop_back(std::size_t count) noexcept { left_ = left_.first(left_.size() - std::min(count, left_.size())); }
  [[nodiscard]] bool complete() const noexcept { return complete_; }
  [[nodiscard]] std::size_t left() const noexcept { return left_.size(); }
  /// true if at least `count` bytes are left.
  [[nodiscard]] bool has(Count count) const noexcept {
    return count.fits() && std::uint64_t(count.value()) <= left_.size();
  }

 private:
  std::span<const std::byte> left_;
  bool complete_ = true;
};

/// Begins a snapshot; returns where the number of bytes goes.
inline std::size_t begin_snapshot(SnapshotWriter& writer, const SnapshotMagic& magic, std::uint32_t version) noexcept {
  writer.number(magic);
  writer.number(version);
  writer.number(snapshot_byte_order);
  const std::size_t size_at = writer.size();
  writer.number(std::uint64_t{0});
  return size_at;
}
/// Ends it; returns its bytes.
inline std::size_t finish_snapshot(SnapshotWriter& writer, std::size_t size_at, std::byte* to) noexcept {
  const std::uint64_t size = writer.size() + sizeof(std::uint32_t);
  if (to != nullptr) {
    std::memcpy(to + size_at, &size, sizeof size);
    writer.number(crc32({to, writer.size()}));
  }
  return std::size_t(size);
}

/// Reads what begin_snapshot() wrote, and checks it and the checksum of the whole. What is left is in front of the latter.
[[nodiscard]] inline Status open_snapshot(SnapshotReader& reader, std::span<const std::byte> whole,
                                          const SnapshotMagic& magic, std::uint32_t version) {
  const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, "snapshot: ", parts...); };
  if (reader.number<SnapshotMagic>() != magic) return bad("it does not begin with ", magic.data());
  const auto stored = reader.number<std::uint32_t>();
  if (stored != version) return bad("version is ", stored, ", must be ", version);
  if (reader.number<std::uint32_t>() != snapshot_byte_order) return bad("it has another byte order");
  const auto size = reader.number<std::uint64_t>();
  if (size != whole.size()) return bad("it has ", whole.size(), " bytes, its header says ", size);
  std::uint32_t crc = 0;
  std::memcpy(&crc, whole.data() + whole.size() - sizeof crc, sizeof crc);
  if (crc != crc32(whole.first(whole.size() - sizeof crc))) return bad("its checksum does not match");
  reader.drop_back(sizeof crc);
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
