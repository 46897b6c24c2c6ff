/// \file
/// The block of bytes that partial states are.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include <heed/checked.hpp>
#include <heed/kernel/softmax_state.hpp>
#include <heed/kernel/tree_nodes.hpp>
#include <heed/status.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI::detail {

/// Begins the block. Padded with zeros, so that equal states are equal bytes.
struct alignas(64) PartialHeader {
  static constexpr std::uint64_t own_mark = 0x3274726150646565;  // "eedPart2": another byte order reads another number

  std::uint64_t mark = 0;
  Index queries = 0;
  Index heads = 0;
  Index width = 0;
  Index nodes = 0;
  float scale = 0;
  float soft_cap = 0;
  std::uint64_t slopes = 0;  // fingerprint of the ALiBi slopes; 0 without
  std::uint64_t math = 0;    // fingerprint of the math's name
  char math_name[64] = {};   // as much of the name as there is room for, and a 0 behind it

  void set_math(std::string_view name) noexcept {
    math = fingerprint_of(name);
    std::memset(math_name, 0, sizeof math_name);
    std::memcpy(math_name, name.data(), name.size() < sizeof math_name ? name.size() : sizeof math_name - 1);
  }
  /// A number that differs for other names, all but surely.
  [[nodiscard]] static std::uint64_t fingerprint_of(std::string_view name) noexcept {
    std::uint64_t made = name.size();
    for (const char letter : name) made = (made ^ std::uint8_t(letter)) * 0x9e3779b97f4a7c15;
    return made;
  }
};
static_assert(sizeof(PartialHeader) == 128 && std::is_trivially_copyable_v<PartialHeader>);
static_assert(sizeof(SoftmaxState) == 8 && std::is_trivially_copyable_v<SoftmaxState>);

/// Where the parts of a block lie. Rows are (query, head), the queries of a node follow each other.
struct PartialBlock {
  PartialHeader* header = nullptr;
  Interval* nodes = nullptr;       // [nodes]: chunks, those of near keys counted from far_away on; ascending
  Index* positions = nullptr;      // [queries]
  Index* places = nullptr;         // [queries]: text positions
  SoftmaxState* states = nullptr;  // [nodes][queries][heads]
  float* outs = nullptr;           // [nodes][queries][heads][width]

  static PartialBlock carve(Carver& carver, const PartialHeader& sizes) noexcept {
    const Index rows = sizes.nodes * sizes.queries * sizes.heads;
    PartialBlock block;
    block.header = carver.take<PartialHeader>(1);
    block.nodes = carver.take<Interval>(sizes.nodes);
    block.positions = carver.take<Index>(sizes.queries);
    block.places = carver.take<Index>(sizes.queries);
    block.states = carver.take<SoftmaxState>(rows);
    block.outs = carver.take<float>(rows * sizes.width);
    return block;
  }
  [[nodiscard]] static PartialBlock at(std::byte* base, const PartialHeader& sizes) noexcept {
    Carver carver(base);
    return carve(carver, sizes);
  }
  [[nodiscard]] static std::uint64_t bytes(const PartialHeader& sizes) noexcept {
    Carver carver(nullptr);
    carve(carver, sizes);
    return carver.bytes();
  }
};

/// A number that differs for other slopes, all but surely.
[[nodiscard]] inline std::uint64_t fingerprint_of_slopes(std::span<const float> slopes) noexcept {
  std::uint64_t made = slopes.size();
  for (const float slope : slopes) made = (made ^ std::bit_cast<std::uint32_t>(slope)) * 0x9e3779b97f4a7c15;
  return made;
}

/// false if a size is out of range, or a block of these sizes has more than most_numbers numbers.
[[nodiscard]] inline bool fits_in_block(const PartialHeader& sizes) noexcept {
  const auto within = [](Index n, Index most) { return 0 <= n && n <= most; };
  return within(sizes.queries, most_tokens) && within(sizes.heads, most_query_heads) &&
         within(sizes.width, most_width) && within(sizes.nodes, 2 * most_nodes) &&
         (Count(sizes.nodes) * sizes.queries * sizes.heads * (sizes.width + 2)).value() <= most_numbers;
}

/// invalid_argument unless `bytes` are a block. The numbers of its states may be any.
[[nodiscard]] inline Status check_partial_block(std::span<const std::byte> bytes) {
  const auto bad = [](const auto&... parts) {
    return fail(StatusCode::invalid_argument, "bytes are no partial states: ", parts...);
  };
  PartialHeader header;
  if (bytes.size() < sizeof header) return bad("there are ", bytes.size(), ", a header has ", sizeof header);
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.mark != PartialHeader::own_mark) return bad("they begin with ", header.mark);
  if (header.math_name[sizeof header.math_name - 1] != '\0') return bad("the name of their math does not end");
  if (!fits_in_block(header)) {
    return bad(header.nodes, " nodes of ", header.queries, " queries, ", header.heads, " heads and ", header.width,
               " numbers");
  }
  if (bytes.size() != PartialBlock::bytes(header)) {
    return bad("there are ", bytes.size(), ", their sizes make ", PartialBlock::bytes(header));
  }
  Index end = 0;
  for (Index i = 0; i < header.nodes; ++i) {
    Interval node;
    std::memcpy(&node, bytes.data() + sizeof header + std::size_t(i) * sizeof node, sizeof node);
    const Index first = node.begin >= far_away ? far_away : 0;
    if (node.begin < end || node.end <= node.begin || node.end - first > KeyRange::all ||
        first_node({node.begin - first, node.end - first}).size() != node.size()) {
      return bad("node ", i, " is chunks ", node.begin, " .. ", node.end);
    }
    end = node.end;
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
