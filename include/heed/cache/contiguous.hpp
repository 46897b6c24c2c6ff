/// \file
/// Cache rows in one block: all rows of one (layer, stream, head) lie together.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include <heed/cache/memory.hpp>

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

/// Bytes of rows: [layer][stream][head][slot]. Knows neither codecs nor tokens; slots are numbered by the caller.
///
/// What a vector load behind a row meets is another row, or zeros. Nobody uses it, but it must not be uninitialised,
/// and it is not zeroed as a whole, because that would touch every page of a capacity that may never be used.
class ContiguousStore {
 public:
  ContiguousStore() = default;

  /// Room for `capacity` tokens: layers * capacity * token_bytes + read_slack bytes. out_of_memory if the resource
  /// refuses or the number does not fit 63 bits.
  [[nodiscard]] static Result<ContiguousStore> create(const MemoryResource& memory, Index layers,
                                                      std::span<const StoredStream> streams, Index capacity) {
    ContiguousStore store;
    store.num_layers_ = layers;
    store.num_streams_ = int(streams.size());
    store.capacity_ = capacity;
    bool overflow = false;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      Block& block = store.blocks_[i];
      block.heads = streams[i].heads;
      block.row_bytes = streams[i].row_bytes;
      block.stride = round_up(block.row_bytes, row_alignment);
      block.offset = store.layer_bytes_;
      Index bytes = 0;
      overflow |= __builtin_mul_overflow(block.stride, capacity, &block.head_bytes);
      overflow |= __builtin_mul_overflow(block.head_bytes, block.heads, &bytes);
      overflow |= __builtin_add_overflow(store.layer_bytes_, bytes, &store.layer_bytes_);
    }
    Index total = 0;
    overflow |= __builtin_mul_overflow(store.layer_bytes_, layers, &total);
    overflow |= total > 0 && __builtin_add_overflow(total, read_slack, &total);
    if (overflow) {
      return fail(StatusCode::out_of_memory, "rows: capacity ", capacity, " tokens in ", layers,
                  " layers need more bytes than there are addresses");
    }
    Result<Buffer> bytes = Buffer::allocate(memory, total, "rows");
    if (!bytes.ok()) return bytes.status();
    store.bytes_ = std::move(*bytes);
    store.define_starts();
    return store;
  }

  /// Takes over the first `slots` rows of every head of `other`, which has the same shape. They must fit.
  void copy(const ContiguousStore& other, Index slots) noexcept {
    if (slots == 0) return;
    for (Index layer = 0; layer < num_layers_; ++layer) {
      for (int stream = 0; stream < num_streams_; ++stream) {
        const Block& block = blocks_[std::size_t(stream)];
        for (Index head = 0; head < block.heads; ++head) {
          std::memcpy(row(layer, stream, head, 0), other.row(layer, stream, head, 0),
                      std::size_t(slots * block.stride));
          define_end(layer, stream, head, slots);
        }
      }
    }
  }

  [[nodiscard]] Index capacity() const noexcept { return capacity_; }
  /// Bytes asked of the memory resource.
  [[nodiscard]] Index allocated() const noexcept { return bytes_.size(); }
  /// Bytes one token occupies in one layer, row padding included.
  [[nodiscard]] Index token_bytes() const noexcept {
    Index bytes = 0;
    for (const Block& block : blocks_) bytes += block.heads * block.stride;
    return bytes;
  }

  [[nodiscard]] std::byte* row(Index layer, int stream, Index head, Index slot) noexcept {
    return bytes_.data() + offset(layer, stream, head, slot);
  }
  [[nodiscard]] const std::byte* row(Index layer, int stream, Index head, Index slot) const noexcept {
    return bytes_.data() + offset(layer, stream, head, slot);
  }

  /// Rows first .. first + rows of one head. A stream with one head answers for any head.
  [[nodiscard]] Tile tile(Index layer, int stream, Index head, Index first, Index rows) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    return {.data = row(layer, stream, block.heads == 1 ? 0 : head, first),
            .rows = rows,
            .stride_bytes = block.stride,
            .readable_bytes = block.stride + read_slack};
  }

  /// Stores rows first .. first + count of every head of one stream with Codec C from `numbers` [count][heads][width].
  template <class C>
  void encode(Index layer, int stream, Index first, Index count, Index width, const float* numbers) noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    const auto padding = std::size_t(block.stride - block.row_bytes);
    if (count == 0) return;
    for (Index head = 0; head < block.heads; ++head) {
      std::byte* to = row(layer, stream, head, first);
      for (Index i = 0; i < count; ++i, to += block.stride) {
        C::encode(numbers + (i * block.heads + head) * width, width, to);
        std::memset(to + block.row_bytes, 0, padding);
      }
      define_end(layer, stream, head, first + count);
    }
  }

 private:
  struct Block {
    Index heads = 0;
    Index row_bytes = 0;
    Index stride = 0;
    Index head_bytes = 0;  ///< capacity rows
    Index offset = 0;      ///< of head 0 within the layer
  };

  [[nodiscard]] Index offset(Index layer, int stream, Index head, Index slot) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    return layer * layer_bytes_ + block.offset + head * block.head_bytes + slot * block.stride;
  }

  /// The last rows of a head read into the next head, whose first rows may not be written yet.
  void define_starts() noexcept {
    if (bytes_.size() == 0) return;
    for (Index layer = 0; layer < num_layers_; ++layer) {
      for (int stream = 0; stream < num_streams_; ++stream) {
        const Block& block = blocks_[std::size_t(stream)];
        const auto bytes = std::size_t(std::min(read_slack, block.head_bytes));
        for (Index head = 0; head < block.heads; ++head) std::memset(row(layer, stream, head, 0), 0, bytes);
      }
    }
    std::memset(bytes_.data() + bytes_.size() - read_slack, 0, std::size_t(read_slack));
  }

  /// The last written row of a head, slot `end` - 1, reads into slots that are not written yet.
  void define_end(Index layer, int stream, Index head, Index end) noexcept {
    const Index left = (capacity_ - end) * blocks_[std::size_t(stream)].stride;
    if (left > 0) std::memset(row(layer, stream, head, end), 0, std::size_t(std::min(read_slack, left)));
  }

  Buffer bytes_;
  Index num_layers_ = 0;
  int num_streams_ = 0;
  Index capacity_ = 0;
  Index layer_bytes_ = 0;
  std::array<Block, AttentionLayout::max_streams> blocks_{};
};

}  // namespace heed::inline HEED_ABI
