/// \file
/// Keys and values in memory somebody else owns.
#pragma once

#include <algorithm>
#include <array>

#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// One stream of foreign rows: the row of token t and head h starts at data + t * token_stride + h * head_stride (bytes).
struct StridedStream {
  const std::byte* data = nullptr;
  Index token_stride_bytes = 0;
  Index head_stride_bytes = 0;
  Index row_bytes = 0;  ///< bytes of one row; nothing beyond them is read
};

/// A KeyValueSource over foreign memory of any layout: no ownership, no copies, no padding needed.
/// Key i has position first_position + i.
template <Codec K, Codec V = K>
class StridedSource {
 public:
  using KeyCodec = K;
  using ValueCodec = V;

  StridedSource(Index tokens, StridedStream key, StridedStream value, Index first_position = 0) noexcept
      : tokens_(tokens), first_position_(first_position), streams_{key, value} {}
  /// Keys and values in one stream.
  StridedSource(Index tokens, StridedStream rows, Index first_position = 0) noexcept
      : StridedSource(tokens, rows, rows, first_position) {}

  [[nodiscard]] Index size() const noexcept { return tokens_; }
  [[nodiscard]] Index position(Index key) const noexcept { return first_position_ + key; }
  [[nodiscard]] Tile tile(int stream, Index head, Index first, Index max) const noexcept {
    const StridedStream& s = streams_[std::size_t(stream)];
    return {.data = s.data + first * s.token_stride_bytes + head * s.head_stride_bytes,
            .rows = std::min(max, tokens_ - first),
            .stride_bytes = s.token_stride_bytes,
            .readable_bytes = s.row_bytes};
  }

 private:
  Index tokens_;
  Index first_position_;
  std::array<StridedStream, 2> streams_;
};

}  // namespace heed::inline HEED_ABI
