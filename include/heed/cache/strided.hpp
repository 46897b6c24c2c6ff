/// \file
/// Keys and values in memory of the caller.
#pragma once

#include <algorithm>
#include <array>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// One stream of the caller's rows: the row of token t and head h starts at
/// data + t * token_stride_bytes + h * head_stride_bytes.
struct StridedStream {
  const std::byte* data = nullptr;  ///< row of token 0 and head 0; not owned; any alignment
  Index token_stride_bytes = 0;     ///< may be negative
  Index head_stride_bytes = 0;      ///< may be negative
  Index row_bytes = 0;              ///< bytes of one row; nothing beyond them is read
  /// Factors of token 0 and head 0 if the codec keeps them apart from rows: Codec::factor_bytes() bytes. Not owned.
  const std::byte* factors = nullptr;
  Index factor_token_stride_bytes = 0;  ///< may be negative
  Index factor_head_stride_bytes = 0;   ///< may be negative
};

/// A KeyValueSource over memory of the caller, in any layout. Owns nothing, copies nothing, needs no padding. Key i has
/// position first_position + i.
template <Codec K, Codec V = K>
class StridedSource {
 public:
  /// How the rows are stored.
  /// \{
  using KeyCodec = K;
  using ValueCodec = V;
  /// \}

  /// Keys and values of `tokens` tokens in two streams.
  StridedSource(Index tokens, StridedStream key, StridedStream value, Index first_position = 0) noexcept
      : tokens_(tokens), first_position_(first_position), streams_{key, value} {}
  /// Keys and values in one stream.
  StridedSource(Index tokens, StridedStream rows, Index first_position = 0) noexcept
      : StridedSource(tokens, rows, rows, first_position) {}

  /// invalid_argument if a row of `layout` is longer than its stream's row_bytes, if a stream with tokens has no
  /// memory, or if strides lead beyond 2^63 bytes. attend() calls this.
  [[nodiscard]] Status validate(const AttentionLayout& layout) const {
    Status status = detail::check_range("tokens", tokens_, 0, detail::most_tokens);
    if (status.ok()) status = validate_stream("key", layout, layout.key, K::row_bytes(row_width(layout, layout.key)));
    if (status.ok() && layout.value.stream != layout.key.stream) {  // one row has one codec
      status = validate_stream("value", layout, layout.value, V::row_bytes(row_width(layout, layout.value)));
    }
    return status;
  }

  /// What KeyValueSource asks for.
  /// \{
  [[nodiscard]] Index size() const noexcept { return tokens_; }
  [[nodiscard]] Index position(Index key) const noexcept { return detail::moved_position(first_position_, key); }
  [[nodiscard]] RowRun row_run(int stream, Index head, Index first, Index max) const noexcept {
    const StridedStream& s = streams_[std::size_t(stream)];
    return {.data = s.data + first * s.token_stride_bytes + head * s.head_stride_bytes,
            .rows = std::min(max, tokens_ - first),
            .stride_bytes = s.token_stride_bytes,
            .readable_bytes = s.row_bytes,
            .factors = s.factors == nullptr
                           ? nullptr
                           : s.factors + first * s.factor_token_stride_bytes + head * s.factor_head_stride_bytes,
            .factor_stride_bytes = s.factor_token_stride_bytes};
  }
  /// \}

  /// Where the first row of a head lies.
  [[nodiscard]] RowBase base(int stream, Index head) const noexcept {
    const StridedStream& s = streams_[std::size_t(stream)];
    return {.rows = reinterpret_cast<std::uintptr_t>(s.data) + std::uintptr_t(head * s.head_stride_bytes),
            .factors = s.factors == nullptr ? 0
                                            : reinterpret_cast<std::uintptr_t>(s.factors) +
                                                  std::uintptr_t(head * s.factor_head_stride_bytes)};
  }

 private:
  [[nodiscard]] static Index row_width(const AttentionLayout& layout, const View& view) noexcept {
    return layout.streams[std::size_t(view.stream)].width;
  }
  [[nodiscard]] Status validate_stream(const char* name, const AttentionLayout& layout, const View& view,
                                       Index row_bytes) const {
    if (tokens_ == 0) return {};
    const auto bad = [name](const auto&... parts) {
      return fail(StatusCode::invalid_argument, "the ", name, " stream's ", parts...);
    };
    const std::size_t index = std::size_t(view.stream);
    if (index >= streams_.size()) return bad("number is ", view.stream, ", a StridedSource has ", streams_.size());
    const StridedStream& stream = streams_[index];
    if (stream.data == nullptr) return bad("data is null, with ", tokens_, " tokens");
    if (stream.row_bytes < row_bytes) {
      return bad("row_bytes is ", stream.row_bytes, ", must be at least ", row_bytes, " for rows of ",
                 row_width(layout, view), " numbers");
    }
    const auto span = [](Index steps, Index stride) {  // a Count, because the magnitude of -2^63 overflows Index
      return Count(steps) * (stride < 0 ? Count(-(stride + 1)) + 1 : Count(stride));
    };
    const Index heads = layout.streams[index].num_heads;
    if (!(span(tokens_ - 1, stream.token_stride_bytes) + stream.row_bytes).fits()) {
      return bad("token_stride_bytes is ", stream.token_stride_bytes, ", too much for ", tokens_, " tokens");
    }
    if (!(span(tokens_ - 1, stream.token_stride_bytes) + span(heads - 1, stream.head_stride_bytes) + stream.row_bytes)
             .fits()) {
      return bad("head_stride_bytes is ", stream.head_stride_bytes, ", too much for ", heads, " heads");
    }
    if (!(span(tokens_ - 1, stream.factor_token_stride_bytes) + span(heads - 1, stream.factor_head_stride_bytes))
             .fits()) {
      return bad("factor strides are ", stream.factor_token_stride_bytes, " and ", stream.factor_head_stride_bytes,
                 ", too much for ", tokens_, " tokens and ", heads, " heads");
    }
    return {};
  }

  Index tokens_;
  Index first_position_;
  std::array<StridedStream, 2> streams_;
};

}  // namespace heed::inline HEED_ABI
