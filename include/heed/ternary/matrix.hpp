/// \file
/// A matrix of weights -1, 0 and 1, with one scale.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include <heed/floats.hpp>
#include <heed/memory.hpp>
#include <heed/moved.hpp>
#include <heed/simd/ternary/layout.hpp>

namespace heed::inline HEED_ABI {

/// Weight (row, col) is scale() * w with w in {-1, 0, 1}. Rows are outputs, columns are inputs. Owns its memory.
/// Immutable: threads may share it. The scale is stored with the weights and never computed again from rounded weights,
/// because weights near scale / 2 would flip. One that was default-made or moved from has no rows and no columns.
template <TernaryLayout L = TwoBit>
class TernaryMatrix {
 public:
  using Layout = L;  ///< how weights are packed into bytes
  /// Fills `to` with row `row`: cols() entries -1, 0 or 1. A failed Status ends create().
  using ReadRow = FunctionRef<Status(Index row, std::span<std::int8_t> to)>;

  TernaryMatrix() = default;

  /// Packs the rows that `read` gives, in order. `memory` must outlive the matrix. Errors, naming `name`:
  /// invalid_argument for a wrong shape, a scale that is not finite and positive, or a weight that is not ternary;
  /// out_of_memory; what `read` returns.
  [[nodiscard]] static Result<TernaryMatrix> create(const char* name, Index rows, Index cols, float scale, ReadRow read,
                                                    const MemoryResource& memory = default_memory()) {
    if (rows < 1 || rows > most_rows || cols < 1 || cols > L::max_cols) {
      return fail(StatusCode::invalid_argument, name, " has shape [", rows, ", ", cols, "], must be in [1 .. ",
                  most_rows, ", 1 .. ", L::max_cols, "]");
    }
    if (!(scale > 0 && detail::is_finite(scale))) {
      return fail(StatusCode::invalid_argument, name, ": scale is ", scale, ", must be positive");
    }
    Result<Buffer> bytes = Buffer::allocate(memory, L::bytes(rows, cols), name);
    if (!bytes.ok()) return bytes.status();
    const Index padded = L::blocks(cols) * L::block_cols;
    Result<Buffer> line = Buffer::allocate(memory, padded, name);
    if (!line.ok()) return line.status();
    TernaryMatrix made;
    made.bytes_ = *std::move(bytes);
    made.rows_ = rows;
    made.cols_ = cols;
    made.scale_ = scale;
    std::memset(made.bytes_.data(), zero_byte, std::size_t(made.bytes_.size()));  // the padding has zero weights
    std::memset(line->data(), 0, std::size_t(padded));
    const std::span<std::int8_t> row{reinterpret_cast<std::int8_t*>(line->data()), std::size_t(cols)};
    for (Index r = 0; r < rows; ++r) {
      if (Status status = read(r, row); !status.ok()) return status;
      unsigned largest = 0;  // largest w + 1 modulo 256; of the whole row, because a loop that may stop early is slow
      for (const int w : row) largest = std::max(largest, unsigned(std::uint8_t(w + 1)));
      for (Index c = 0; largest > 2 && c < cols; ++c) {
        const int w = row[std::size_t(c)];
        if (w >= -1 && w <= 1) continue;
        return fail(StatusCode::invalid_argument, name, " has weight ", w, " at [", r, ", ", c,
                    "], must be -1, 0 or 1");
      }
      std::byte* to = made.bytes_.data() + L::byte_of(r, 0, cols);
      const std::int8_t* from = row.data();
      for (Index b = 0; b < L::blocks(cols); ++b, to += L::block_bytes, from += L::block_cols) {
        std::uint8_t packed[4] = {};
        for (int p = 0; p < L::planes; ++p) {
          for (int j = 0; j < 4; ++j) packed[j] = std::uint8_t(packed[j] + (from[4 * p + j] + 1) * L::plane_unit(p));
        }
        std::memcpy(to, packed, sizeof packed);
      }
    }
    return made;
  }

  /// Number of outputs.
  [[nodiscard]] Index rows() const noexcept { return rows_; }
  /// Number of inputs.
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  /// The scale of all weights.
  [[nodiscard]] float scale() const noexcept { return scale_; }
  /// Bytes held, padding included.
  [[nodiscard]] Index bytes() const noexcept { return bytes_.size(); }

  /// Writes row `row` as -1, 0 and 1. `to` must have cols() entries.
  void read_row(Index row, std::span<std::int8_t> to) const noexcept {
    for (Index c = 0; c < cols_; ++c) {
      const auto byte = std::uint8_t(bytes_.data()[L::byte_of(row, c, cols_)]);
      to[std::size_t(c)] = std::int8_t(L::code(byte, L::plane_of(c)) - 1);
    }
  }

  /// Blocks of a group of rows.
  [[nodiscard]] Index blocks() const noexcept { return L::blocks(cols_); }
  /// Groups of 32 rows, the last one padded.
  [[nodiscard]] Index groups() const noexcept { return (rows_ + L::block_rows - 1) / L::block_rows; }
  /// Group `g`: blocks() blocks of Layout::block_bytes bytes.
  [[nodiscard]] const std::byte* group(Index g) const noexcept { return bytes_.data() + g * blocks() * L::block_bytes; }

 private:
  static constexpr Index most_rows = Index{1} << 32;
  static constexpr std::uint8_t zero_byte = [] {
    int byte = 0;
    for (int p = 0; p < L::planes; ++p) byte += L::plane_unit(p);
    return std::uint8_t(byte);
  }();

  Buffer bytes_;
  detail::UntilMoved<Index> rows_, cols_;
  detail::UntilMoved<float> scale_;
};

/// The same weights and scale in another layout. `name` is for messages.
template <TernaryLayout To, TernaryLayout From>
[[nodiscard]] Result<TernaryMatrix<To>> with_layout(const char* name, const TernaryMatrix<From>& from) {
  return TernaryMatrix<To>::create(name, from.rows(), from.cols(), from.scale(),
                                   [&](Index row, std::span<std::int8_t> to) -> Status {
                                     from.read_row(row, to);
                                     return {};
                                   });
}

}  // namespace heed::inline HEED_ABI
