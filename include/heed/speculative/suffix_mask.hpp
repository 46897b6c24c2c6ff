/// \file
/// The mask of a step whose queries see all keys before the step. Bits say what they see of the step itself.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include <heed/checked.hpp>
#include <heed/concepts.hpp>

namespace heed::inline HEED_ABI {

/// An AttentionMask for a step. Its queries see all keys before the step. Of the step's own keys a query sees those
/// whose bit is set. Owns nothing.
///
/// Query i and key j of the step have positions prefix + i and prefix + j, so query_positions must not be given. The
/// text position of a token is prefix + the number of other tokens of the step that it sees: its depth if the step is a
/// tree. ALiBi and the rotation of keys at read use it.
///
/// attend() refuses the mask unless the keys end with the step and their source evicts by no rule. TreeMask knows
/// rules.
class SuffixMask {
 public:
  /// Row i of `bits` has `words` words of 64 bits; bit j of the row (from the low end) says whether query i sees key j
  /// of the step. `bits` must outlive the mask.
  SuffixMask(Index prefix, std::span<const std::uint64_t> bits, Index words) noexcept
      : prefix_(prefix), bits_(bits), words_(words) {}

  /// What AttentionMask asks for.
  /// \{
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys) const noexcept {
    if (keys.end <= prefix_) return Coverage::full;
    const bool own = keys.begin >= prefix_;
    return own && (!in_step(keys.begin) || queries.end <= prefix_) ? Coverage::none : Coverage::partial;
  }
  [[nodiscard]] bool visible(Index query, Index key) const noexcept {
    if (key < prefix_) return true;
    return in_step(query) && in_step(key) && sees(query - prefix_, key - prefix_);
  }
  /// \}

  /// The text position of the token at `position`.
  [[nodiscard]] Index text_position(Index position) const noexcept {
    if (!in_step(position)) return position;
    const Index i = position - prefix_;
    Index others = 0;
    for (Index first = 0; first < rows(); first += 64) {
      std::uint64_t word = bits_[std::size_t(i * words_ + first / 64)];
      if (rows() - first < 64) word &= (std::uint64_t{1} << (rows() - first)) - 1;
      others += std::popcount(word);
    }
    return prefix_ + others - (sees(i, i) ? 1 : 0);
  }
  /// invalid_argument if one of these is true: the keys do not end with the step; they are of a cache that evicts; the
  /// call has query_positions, or more queries than the step has tokens; `bits` is not made of whole rows.
  [[nodiscard]] Status fits(const MaskedCall& call) const {
    const auto bad = [](const auto&... parts) { return fail(StatusCode::invalid_argument, parts...); };
    if (call.rule != nullptr) {
      return bad("the mask shows a step all keys before it, but keys are of a cache with rule ", call.rule,
                 ": take TreeMask or TreePaths");
    }
    if (words_ < (rows() + 63) / 64 || Index(bits_.size()) != rows() * words_) {
      return bad("the mask has ", bits_.size(), " words in rows of ", words_,
                 ", must have (n + 63) / 64 in each of n rows");
    }
    if (prefix_ != call.end - rows()) {
      return bad("the mask is of a step of ", rows(), " tokens after ", prefix_, " keys, but keys end at position ",
                 call.end);
    }
    if (call.queries > rows()) return bad("q has ", call.queries, " queries, the mask's step ", rows(), " tokens");
    if (call.query_positions) {
      return bad("query_positions are given, but the mask is of a step, whose queries are its tokens in order");
    }
    return {};
  }

 private:
  [[nodiscard]] Index rows() const noexcept { return words_ < 1 ? 0 : Index(bits_.size()) / words_; }
  // The difference is computed without a sign: so it cannot overflow, whatever the prefix is.
  [[nodiscard]] bool in_step(Index position) const noexcept {
    return position >= prefix_ && std::uint64_t(position) - std::uint64_t(prefix_) < std::uint64_t(rows());
  }
  [[nodiscard]] bool sees(Index i, Index j) const noexcept {
    return ((bits_[std::size_t(i * words_ + j / 64)] >> (j % 64)) & 1) != 0;
  }

  Index prefix_;
  std::span<const std::uint64_t> bits_;
  Index words_;
};

/// Bits for a SuffixMask, in rows of (tokens + 63) / 64 words, from packed bits as verification kernels pass them: bit
/// i * tokens + j of `packed`, lowest bit of a byte first, says whether query i sees key j. invalid_argument for a
/// wrong number of bytes.
[[nodiscard]] inline Result<std::vector<std::uint64_t>> suffix_bits(std::span<const std::uint8_t> packed,
                                                                    Index tokens) {
  const Count bits = Count(tokens) * tokens;
  const Count bytes = bits.fits() ? Count(round_up(bits, 8).value() / 8) : bits;
  if (tokens < 0 || !detail::has_size(packed.size(), bytes)) {
    return fail(StatusCode::invalid_argument, "packed has ", packed.size(), " bytes, must have ", bytes, " for ",
                tokens, " tokens");
  }
  const Index words = (tokens + 63) / 64;
  std::vector<std::uint64_t> rows(std::size_t(tokens * words));
  for (Index i = 0; i < tokens; ++i) {
    for (Index j = 0; j < tokens; ++j) {
      const Index bit = i * tokens + j;
      const std::uint64_t visible = (packed[std::size_t(bit / 8)] >> (bit % 8)) & 1;
      rows[std::size_t(i * words + j / 64)] |= visible << (j % 64);
    }
  }
  return rows;
}

}  // namespace heed::inline HEED_ABI
