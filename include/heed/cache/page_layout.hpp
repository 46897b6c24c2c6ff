/// \file
/// Where rows lie in a page: all rows of one (layer, stream, head) together.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include <heed/cache/page_pool.hpp>

namespace heed::inline HEED_ABI {

/// Rows of one stream of one layer: `heads` rows of `row_bytes` encoded bytes per token.
struct StoredStream {
  Index heads = 0;
  Index row_bytes = 0;
};

/// Rows are this much apart at least, so that words and short vectors never straddle two cache lines needlessly.
/// Not 64: a row of 16 bf16 numbers is 32 bytes, and padding would double its cache.
inline constexpr Index row_alignment = 16;
/// Bytes behind every row that exist and are defined, so that loops may read whole vectors past a row's end.
inline constexpr Index read_slack = 64;

/// The shape of a page: [layer][stream][head][slot]. Knows neither codecs nor tokens.
///
/// What a vector load behind a row meets is another row, an old one, or zeros: a page is defined when it is acquired.
class PageLayout {
 public:
  PageLayout() = default;

  /// out_of_memory if the bytes of a page do not fit 63 bits.
  [[nodiscard]] static Result<PageLayout> create(Index layers, std::span<const StoredStream> streams, Index tokens) {
    PageLayout made;
    made.layers_ = layers;
    made.streams_ = int(streams.size());
    made.tokens_ = tokens;
    bool overflow = false;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      Block& block = made.blocks_[i];
      block.heads = streams[i].heads;
      block.row_bytes = streams[i].row_bytes;
      block.stride = round_up(block.row_bytes, row_alignment);
      block.offset = made.layer_bytes_;
      Index bytes = 0;
      overflow |= __builtin_mul_overflow(block.stride, tokens, &block.head_bytes);
      overflow |= __builtin_mul_overflow(block.head_bytes, block.heads, &bytes);
      overflow |= __builtin_add_overflow(made.layer_bytes_, bytes, &made.layer_bytes_);
    }
    overflow |= __builtin_mul_overflow(made.layer_bytes_, layers, &made.bytes_);
    overflow |= __builtin_add_overflow(made.bytes_, read_slack, &made.bytes_);
    overflow |= made.bytes_ > (Index{1} << 62);
    if (overflow) {
      return fail(StatusCode::out_of_memory, "rows: a page of ", tokens, " tokens in ", layers,
                  " layers needs more bytes than there are addresses");
    }
    return made;
  }

  [[nodiscard]] Index layers() const noexcept { return layers_; }
  /// Tokens of a page.
  [[nodiscard]] Index tokens() const noexcept { return tokens_; }
  /// Bytes of a page's rows, slack included.
  [[nodiscard]] Index bytes() const noexcept { return bytes_; }
  /// Bytes one token occupies in all layers, row padding included.
  [[nodiscard]] Index token_bytes() const noexcept {
    Index bytes = 0;
    for (const Block& block : blocks_) bytes += block.heads * block.stride;
    return layers_ * bytes;
  }

  [[nodiscard]] std::byte* row(Page* page, Index layer, int stream, Index head, Index slot) const noexcept {
    return page->rows() + offset(layer, stream, head, slot);
  }
  [[nodiscard]] const std::byte* row(const Page* page, Index layer, int stream, Index head, Index slot) const noexcept {
    return page->rows() + offset(layer, stream, head, slot);
  }

  /// Rows slot .. slot + rows of one head. A stream with one head answers for any head.
  [[nodiscard]] Tile tile(const Page* page, Index layer, int stream, Index head, Index slot,
                          Index rows) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    return {.data = row(page, layer, stream, block.heads == 1 ? 0 : head, slot),
            .rows = rows,
            .stride_bytes = block.stride,
            .readable_bytes = block.stride + read_slack};
  }

  /// Stores rows slot .. slot + count of every head of one stream with Codec C from `numbers` [count][heads][width].
  template <class C>
  void encode(Page* page, Index layer, int stream, Index slot, Index count, Index width,
              const float* numbers) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    const auto padding = std::size_t(block.stride - block.row_bytes);
    for (Index head = 0; head < block.heads; ++head) {
      std::byte* to = row(page, layer, stream, head, slot);
      for (Index i = 0; i < count; ++i, to += block.stride) {
        C::encode(numbers + (i * block.heads + head) * width, width, to);
        std::memset(to + block.row_bytes, 0, padding);
      }
    }
  }

  /// Calls body(layer, stream, head) for every run of rows that lies together.
  template <class Body>
  void for_each_head(const Body& body) const {
    for (Index layer = 0; layer < layers_; ++layer) {
      for (int stream = 0; stream < streams_; ++stream) {
        for (Index head = 0; head < blocks_[std::size_t(stream)].heads; ++head) body(layer, stream, head);
      }
    }
  }
  /// Encoded bytes of a row of a stream.
  [[nodiscard]] Index row_bytes(int stream) const noexcept { return blocks_[std::size_t(stream)].row_bytes; }
  /// Encoded bytes of a token in all layers, without padding.
  [[nodiscard]] Index encoded_token_bytes() const noexcept {
    Index bytes = 0;
    for (const Block& block : blocks_) bytes += block.heads * block.row_bytes;
    return layers_ * bytes;
  }

  /// Copies `count` slots of every head. The two runs may overlap in one page.
  void copy(const Page* from, Index from_slot, Page* to, Index to_slot, Index count) const noexcept {
    if (count == 0) return;
    for_each_head([&](Index layer, int stream, Index head) {
      std::memmove(row(to, layer, stream, head, to_slot), row(from, layer, stream, head, from_slot),
                   std::size_t(count * blocks_[std::size_t(stream)].stride));
    });
  }

 private:
  struct Block {
    Index heads = 0;
    Index row_bytes = 0;
    Index stride = 0;
    Index head_bytes = 0;  ///< rows of a whole page
    Index offset = 0;      ///< of head 0 within the layer
  };

  [[nodiscard]] Index offset(Index layer, int stream, Index head, Index slot) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    return layer * layer_bytes_ + block.offset + head * block.head_bytes + slot * block.stride;
  }

  Index layers_ = 0;
  int streams_ = 0;
  Index tokens_ = 1;
  Index layer_bytes_ = 0;
  Index bytes_ = 0;
  std::array<Block, AttentionLayout::max_streams> blocks_{};
};

}  // namespace heed::inline HEED_ABI
