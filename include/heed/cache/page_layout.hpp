/// \file
/// Where rows lie in a page: all rows of one (layer, stream, head) together.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <thread>

#include <heed/cache/pool_handle.hpp>
#include <heed/checked.hpp>
#include <heed/factors.hpp>
#include <heed/hash.hpp>

namespace heed::inline HEED_ABI::detail {

/// Rows of one stream of one layer: `heads` rows per token.
struct StoredStream {
  Index heads = 0;                  ///< rows per token
  Index row_bytes = 0;              ///< encoded bytes of a row, without padding
  Index alignment = row_alignment;  ///< rows begin at multiples of this power of two: Codec::row_alignment
  Index factor_bytes = 0;           ///< bytes of a row's entry in the plane of factors; 0: no plane

  /// The stream of `heads` rows of `width` numbers in codec C.
  template <class C>
  [[nodiscard]] static StoredStream of(Index heads, Index width) noexcept {
    return {heads, C::row_bytes(width), C::row_alignment, C::factor_bytes(width)};
  }
};

/// This many bytes after every row exist and are defined, so that loops may read whole vectors beyond the end of a row.
inline constexpr Index read_slack = 64;

/// The shape of a page: rows lie as [layer][stream][head][slot]. Behind all rows, factors that codecs keep apart from
/// them lie in planes of the same order. The codec is an argument of encode(); what is stored in a slot is the caller's.
///
/// A vector load may read past a row's end. What it meets there is another row, an old row or zeros, never fresh memory. To
/// clear a whole page would take longer than a step. So each (layer, stream) has a mark behind the rows and planes: the
/// number of slots that are defined so far. Writing clears what is missing and moves the mark. Layers and streams may be
/// written by several threads at the same time.
class PageLayout {
 public:
  PageLayout() = default;

  /// out_of_memory if the bytes of a page do not fit 63 bits.
  [[nodiscard]] static Result<PageLayout> create(Index layers, std::span<const StoredStream> streams, Index tokens) {
    PageLayout made;
    made.layers_ = layers;
    made.streams_ = int(streams.size());
    made.tokens_ = tokens;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      Block& block = made.blocks_[i];
      block.heads = streams[i].heads;
      block.row_bytes = streams[i].row_bytes;
      block.stride = round_up(block.row_bytes, streams[i].alignment);
      block.offset = round_up(Count(made.layer_bytes_), streams[i].alignment).value();
      const Count head_bytes = Count(block.stride) * tokens;
      block.head_bytes = head_bytes.value();
      made.layer_bytes_ = (Count(block.offset) + head_bytes * block.heads).value();
      block.entry = streams[i].factor_bytes;
      block.plane_offset = made.layer_plane_bytes_;
      const Count plane_bytes = Count(block.entry) * tokens;
      block.plane_bytes = plane_bytes.value();
      // The next plane begins at a cache line.
      made.layer_plane_bytes_ =
          round_up(Count(made.layer_plane_bytes_) + plane_bytes * block.heads, read_slack).value();
    }
    // Of layers, and so of planes and marks. Alignments are powers of two.
    Index alignment = row_alignment;
    for (const StoredStream& stream : streams) alignment = std::max(alignment, stream.alignment);
    made.layer_bytes_ = round_up(Count(made.layer_bytes_), alignment).value();
    const Count planes = Count(made.layer_bytes_) * layers;
    made.planes_ = planes.value();
    const Count rows = planes + Count(made.layer_plane_bytes_) * layers + read_slack;
    made.marks_ = rows.value();
    made.bytes_ = (rows + Count(layers) * made.streams_ * Index(sizeof(Index))).value();
    if (made.bytes_ > (Index{1} << 62)) {  // an overflow sticks above this
      return fail(StatusCode::out_of_memory, "rows: a page of ", tokens, " tokens in ", layers,
                  " layers needs more bytes than there are addresses");
    }
    made.shape_ = made.fingerprint();
    return made;
  }

  /// Number of layers whose rows lie in a page.
  [[nodiscard]] Index layers() const noexcept { return layers_; }
  /// Tokens of a page.
  [[nodiscard]] Index tokens() const noexcept { return tokens_; }
  /// Bytes of a page, slack and marks included.
  [[nodiscard]] Index bytes() const noexcept { return bytes_; }
  /// Bytes one token occupies in all layers, row padding and planes included.
  [[nodiscard]] Index token_bytes() const noexcept {
    Index bytes = 0;
    for (const Block& block : blocks_) bytes += block.heads * (block.stride + block.entry);
    return layers_ * bytes;
  }

  /// Clears the marks of a page that was never used, or that another layout of the same size used. Writing calls this. If
  /// several threads write the first rows, one clears the marks and the others wait.
  void prepare(Page* page) const noexcept {
    constexpr std::uint64_t busy = 2;
    std::uint64_t before = page->shape.load(std::memory_order_acquire);
    while (before != shape_) {
      if (before == busy || !page->shape.compare_exchange_weak(before, busy, std::memory_order_acquire)) {
        std::this_thread::yield();
        before = page->shape.load(std::memory_order_acquire);
        continue;
      }
      clear_marks(page);
      page->shape.store(shape_, std::memory_order_release);
      return;
    }
  }

  /// A row to be written.
  [[nodiscard]] std::byte* row(Page* page, Index layer, int stream, Index head, Index slot) const noexcept {
    define(page, layer, stream, slot + 1);
    return at(page, layer, stream, head, slot);
  }
  /// A row to be read.
  [[nodiscard]] const std::byte* row(const Page* page, Index layer, int stream, Index head, Index slot) const noexcept {
    return page->rows() + offset(layer, stream, head, slot);
  }
  /// A row's entry in the plane of factors: factor_bytes(stream) bytes. To be written after row().
  /// \{
  [[nodiscard]] std::byte* factors(Page* page, Index layer, int stream, Index head, Index slot) const noexcept {
    return page->rows() + plane_offset(layer, stream, head, slot);
  }
  [[nodiscard]] const std::byte* factors(const Page* page, Index layer, int stream, Index head,
                                         Index slot) const noexcept {
    return page->rows() + plane_offset(layer, stream, head, slot);
  }
  /// \}

  /// Rows slot .. slot + rows of one head. A stream with one head answers for any head.
  [[nodiscard]] RowRun row_run(const Page* page, Index layer, int stream, Index head, Index slot,
                               Index rows) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    if (block.heads == 1) head = 0;
    return {.data = row(page, layer, stream, head, slot),
            .rows = rows,
            .stride_bytes = block.stride,
            .readable_bytes = block.stride + read_slack,
            .factors = block.entry == 0 ? nullptr : factors(page, layer, stream, head, slot),
            .factor_stride_bytes = block.entry};
  }

  /// Where the rows of one head begin in a page. In another layer or head all rows move by the difference.
  [[nodiscard]] RowBase base(Index layer, int stream, Index head) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    if (block.heads == 1) head = 0;
    return {.rows = std::uintptr_t(offset(layer, stream, head, 0)),
            .factors = block.entry == 0 ? 0 : std::uintptr_t(plane_offset(layer, stream, head, 0))};
  }

  /// Stores rows slot .. slot + count of every head of one stream with Codec C from `numbers` [count][heads][width].
  template <class C>
  void encode(Page* page, Index layer, int stream, Index slot, Index count, Index width,
              const float* numbers) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    const auto padding = std::size_t(block.stride - block.row_bytes);
    define(page, layer, stream, slot + count);
    for (Index head = 0; head < block.heads; ++head) {
      std::byte* to = at(page, layer, stream, head, slot);
      std::byte* entry = factors(page, layer, stream, head, slot);
      for (Index i = 0; i < count; ++i, to += block.stride, entry += block.entry) {
        C::encode(numbers + (i * block.heads + head) * width, width, to, entry);
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
  /// Bytes of a row's entry in the plane of factors.
  [[nodiscard]] Index factor_bytes(int stream) const noexcept { return blocks_[std::size_t(stream)].entry; }
  /// Encoded bytes of a token in all layers, factors included, without padding.
  [[nodiscard]] Index encoded_token_bytes() const noexcept {
    Index bytes = 0;
    for (const Block& block : blocks_) bytes += block.heads * (block.row_bytes + block.entry);
    return layers_ * bytes;
  }

  /// Copies `count` slots of every head. The two runs may overlap in one page.
  void copy(const Page* from, Index from_slot, Page* to, Index to_slot, Index count) const noexcept {
    if (count == 0) return;
    for_each_head([&](Index layer, int stream, Index head) {
      if (head == 0) define(to, layer, stream, to_slot + count);
      std::memmove(at(to, layer, stream, head, to_slot), row(from, layer, stream, head, from_slot),
                   std::size_t(count * blocks_[std::size_t(stream)].stride));
      const Index entry = factor_bytes(stream);
      if (entry == 0) return;
      std::memmove(factors(to, layer, stream, head, to_slot), factors(from, layer, stream, head, from_slot),
                   std::size_t(count * entry));
    });
  }

 private:
  struct Block {
    Index heads = 0;
    Index row_bytes = 0;
    Index stride = 0;
    Index head_bytes = 0;    ///< rows of a whole page
    Index offset = 0;        ///< of head 0 within the layer
    Index entry = 0;         ///< bytes of a row's factors in the plane
    Index plane_bytes = 0;   ///< plane of a head of a whole page
    Index plane_offset = 0;  ///< of head 0's plane within the layer's planes
  };

  [[nodiscard]] std::byte* at(Page* page, Index layer, int stream, Index head, Index slot) const noexcept {
    return page->rows() + offset(layer, stream, head, slot);
  }
  void clear_marks(Page* page) const noexcept {
    std::memset(page->rows() + marks_, 0, std::size_t(bytes_ - marks_));
    for (Index layer = 0; layer < layers_; ++layer) {
      for (int stream = 0; stream < streams_; ++stream) {  // behind the rows of the one before
        const Block& block = blocks_[std::size_t(stream)];
        std::memset(at(page, layer, stream, 0, 0), 0,
                    std::size_t(std::min(read_slack, block.heads * block.head_bytes)));
        // Up to the next stream, because that begins at its own alignment.
        const Index end = offset(layer, stream, block.heads, 0);
        const Index next = stream + 1 < streams_ ? offset(layer, stream + 1, 0, 0) : (layer + 1) * layer_bytes_;
        std::memset(page->rows() + end, 0, std::size_t(next - end));
        const Index planes = block.heads * block.plane_bytes;
        std::byte* const plane = factors(page, layer, stream, 0, 0);
        std::memset(plane, 0, std::size_t(std::min(read_slack, planes)));
        std::memset(plane + planes, 0, std::size_t(round_up(planes, read_slack) - planes));
      }
    }
    std::memset(page->rows() + marks_ - read_slack, 0, std::size_t(read_slack));
  }

  /// Slots [0, end) of every head, and what may be read behind them, are defined from now on: those that were never written
  /// become zeros.
  void define(Page* page, Index layer, int stream, Index end) const noexcept {
    constexpr Index at_once = 16;
    prepare(page);
    const Block& block = blocks_[std::size_t(stream)];
    Index& mark = reinterpret_cast<Index*>(page->rows() + marks_)[layer * streams_ + stream];
    Index wanted = std::min(tokens_, end + (read_slack + block.stride - 1) / block.stride);
    if (block.entry > 0)
      wanted = std::max(wanted, std::min(tokens_, end + (read_slack + block.entry - 1) / block.entry));
    if (wanted <= mark) return;
    const Index now = std::min(tokens_, round_up(wanted, at_once));
    for (Index head = 0; head < block.heads; ++head) {
      std::memset(at(page, layer, stream, head, mark), 0, std::size_t((now - mark) * block.stride));
      std::memset(factors(page, layer, stream, head, mark), 0, std::size_t((now - mark) * block.entry));
    }
    mark = now;
  }
  [[nodiscard]] std::uint64_t fingerprint() const noexcept {
    std::uint64_t hash = 0xcbf29ce484222325u;
    const auto add = [&hash](Index n) { hash = hash_next(hash, std::uint64_t(n)); };
    for (const Index n : {layers_, Index(streams_), tokens_}) add(n);
    for (const Block& block : blocks_) add(block.heads), add(block.stride), add(block.entry);
    return hash | 1;  // odd, because 0 means no shape, and 2 a shape that is being made
  }

  [[nodiscard]] Index offset(Index layer, int stream, Index head, Index slot) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    return layer * layer_bytes_ + block.offset + head * block.head_bytes + slot * block.stride;
  }
  [[nodiscard]] Index plane_offset(Index layer, int stream, Index head, Index slot) const noexcept {
    const Block& block = blocks_[std::size_t(stream)];
    return planes_ + layer * layer_plane_bytes_ + block.plane_offset + head * block.plane_bytes + slot * block.entry;
  }

  Index layers_ = 0;
  int streams_ = 0;
  Index tokens_ = 1;
  Index layer_bytes_ = 0;
  Index layer_plane_bytes_ = 0;
  Index planes_ = 0;  ///< offset of the planes, behind all rows
  Index marks_ = 0;   ///< offset of the marks [layer][stream], behind the slack
  Index bytes_ = 0;
  std::uint64_t shape_ = 0;
  std::array<Block, AttentionLayout::max_streams> blocks_{};
};

}  // namespace heed::inline HEED_ABI::detail
