// Readers of foreign ternary packings on any bytes and shapes: a named refusal, or a matrix of -1, 0 and 1.
#include <vector>

#include <heed/simd/scalar.hpp>
#include <heed/ternary/import/floats.hpp>
#include <heed/ternary/import/ggml.hpp>
#include <heed/ternary/import/hugging_face.hpp>
#include <heed/ternary/import/i2_s.hpp>

#include "fuzz/bytes.hpp"

namespace {

using heed::Index;

/// Often the shape of so many weights, else anything.
struct MatrixShape {
  Index rows = 0, cols = 0;
};
MatrixShape shape(heed_fuzz::Bytes& in) {
  constexpr Index widths[] = {1, 5, 64, 128, 192, 256, 320, 512};
  if (in.one_in(4)) return {in.extreme(), in.extreme()};
  return {in.pick(1, 9), widths[in.pick(0, 7)]};
}

template <class L>
void read(heed_fuzz::Bytes& in) {
  const MatrixShape size = shape(in);
  const Index rows = size.rows, cols = size.cols;
  const auto kind = in.pick(0, 7);
  std::vector<std::uint8_t> bytes;
  const std::span<const std::uint8_t> rest = in.rest();
  // A vector of its own: a byte read too far is seen.
  bytes.assign(rest.begin(), rest.end());
  // Enough bytes for a small shape, by repeating what there is.
  if (!bytes.empty() && rows > 0 && rows < 16 && cols > 0 && cols <= 512 && bytes[0] % 2 == 0) {
    const std::size_t sizes[] = {std::size_t((rows + 3) / 4 * cols), std::size_t(rows * cols / 4 + 4),
                                 std::size_t(rows * (cols / 256) * 66), std::size_t(rows * (cols / 256) * 54)};
    const std::size_t wanted = sizes[kind < 2 ? 0 : kind < 4 ? 1 : kind < 6 ? 2 : 3], own = bytes.size();
    bytes.resize(wanted);
    for (std::size_t i = own; i < wanted; ++i) bytes[i] = bytes[i % own];
  }
  const auto check = [&](const auto& made) {
    if (!made.ok()) {
      FUZZ_CHECK(!made.status().message().empty());
      return;
    }
    FUZZ_CHECK(made->rows() == rows && made->cols() == cols);
    std::vector<std::int8_t> weights(static_cast<std::size_t>(cols));
    for (Index row = 0; row < rows; ++row) {
      made->read_row(row, weights);
      FUZZ_CHECK(std::all_of(weights.begin(), weights.end(), [](int w) { return w >= -1 && w <= 1; }));
    }
  };
  switch (kind) {
    case 0: check(heed::ternary_from_hugging_face<L>("w", bytes, rows, cols, 0.5f, heed::WeightScale::divisor)); break;
    case 1: {
      check(heed::ternary_from_hugging_face<L>("w", bytes, rows, cols, 0.5f, heed::WeightScale::multiplier));
      break;
    }
    case 2: check(heed::ternary_from_i2_s<L>("w", bytes, rows, cols, heed::I2sBlock::x86)); break;
    case 3: check(heed::ternary_from_i2_s<L>("w", bytes, rows, cols, heed::I2sBlock::arm)); break;
    case 4:
    case 5: check(heed::ternary_from_ggml<L>("w", bytes, rows, cols, heed::GgmlTernary::tq2_0)); break;
    default: check(heed::ternary_from_ggml<L>("w", bytes, rows, cols, heed::GgmlTernary::tq1_0)); break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  heed_fuzz::Bytes in(data, size);
  heed::TernaryLayouts::with_number(std::size_t(in.pick(0, heed::Index(heed::TernaryLayouts::size) - 1)),
                                    [&]<class L>() { read<L>(in); });
  return 0;
}
