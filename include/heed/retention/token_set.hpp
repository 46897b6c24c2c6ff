/// \file
/// A set of token ids, and the separators of well-known tokenisers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// A set of token ids, owned. Ids are compared exactly: a merged token that contains a separator's text is another
/// token. The order of the given ids does not matter, nor does repetition.
class TokenSet {
 public:
  TokenSet() = default;
  /// Copies `ids`. Allocates from the C++ heap.
  /// \{
  TokenSet(std::initializer_list<std::int32_t> ids) : TokenSet(std::span(ids.begin(), ids.size())) {}
  explicit TokenSet(std::span<const std::int32_t> ids) : ids_(ids.begin(), ids.end()) {
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
  }
  /// \}

  /// true if `id` is in the set. Takes a binary search.
  [[nodiscard]] bool contains(std::int32_t id) const noexcept {
    return std::binary_search(ids_.begin(), ids_.end(), id);
  }
  /// true if there is no id. validate() refuses such a set.
  [[nodiscard]] bool empty() const noexcept { return ids_.empty(); }
  /// The ids, ascending, each once.
  [[nodiscard]] std::span<const std::int32_t> ids() const noexcept { return ids_; }

  /// invalid_argument if there is no id, or a negative one.
  [[nodiscard]] Status validate(const char* name) const {
    if (ids_.empty()) return fail(StatusCode::invalid_argument, name, " is empty, must have at least one id");
    if (ids_.front() < 0) return fail(StatusCode::invalid_argument, name, " has the id ", ids_.front());
    return {};
  }

  friend bool operator==(const TokenSet&, const TokenSet&) = default;

 private:
  std::vector<std::int32_t> ids_;
};

/// Separator ids as HKUDS/SepLLM uses them, and the anchors of AnLLM (pangjh3/AnLLM). Every tokeniser has other ids.
namespace separators {

/// Pythia and GPT-NeoX: . , ? ! ; : space tab newline
[[nodiscard]] inline TokenSet pythia() { return {15, 13, 32, 2, 28, 27, 209, 186, 187}; }
/// Pythia, streaming: the nine, and those that begin with a space.
[[nodiscard]] inline TokenSet pythia_streaming() {
  return {15, 13, 32, 2, 28, 27, 209, 186, 187, 964, 1157, 3736, 2195, 3706, 1163, 2490, 50276, 586, 4928, 50275};
}
/// Llama-3 without training: . , ? ! ; : space newline, and 128000, its beginning-of-text token. No tab.
[[nodiscard]] inline TokenSet llama3() { return {13, 11, 30, 0, 26, 25, 198, 220, 128000}; }
/// Llama-3, streaming.
[[nodiscard]] inline TokenSet llama3_streaming() {
  return {13, 11, 30, 0, 26, 25, 198, 220, 662, 1174, 949, 758, 2652, 551, 720, 256, 262};
}
/// Llama-3 in SepCache: the streaming ids and the beginning-of-text token.
[[nodiscard]] inline TokenSet llama3_sep_cache() {
  return {13, 11, 30, 0, 26, 25, 198, 220, 662, 1174, 949, 758, 2652, 551, 720, 256, 262, 128000};
}
/// Falcon.
[[nodiscard]] inline TokenSet falcon() { return {25, 23, 42, 12, 38, 37, 193, 4610, 204, 258, 1212, 23787, 466}; }
/// AnLLM-EP on Llama-2: the full stop. Its code also takes , 29892  ; 29936  ? 29973  ! 29991.
[[nodiscard]] inline TokenSet anllm_ep() { return {29889}; }
/// AnLLM-AC: the token `<AC>` that it adds between sentences.
[[nodiscard]] inline TokenSet anllm_ac() { return {32001}; }

}  // namespace separators

}  // namespace heed::inline HEED_ABI
