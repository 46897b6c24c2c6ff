/// \file
/// The vocabulary of retention rules: what a token is to a rule, what a rule may look at, and what it answers.
///
/// Every rule of heed has one shape. A query sees the recent tokens [begin, query], and of the older ones the landmarks:
/// separators, anchors, the first tokens. So a rule says of each token whether it is a landmark, and of each query where
/// the recent tokens begin. What is neither recent for the next query nor a landmark is evicted.
#pragma once

#include <cstdint>
#include <limits>

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// The id of a token whose id was not given.
inline constexpr std::int32_t no_token_id = -1;

/// What a token is to a rule.
enum class Role : std::uint8_t {
  plain,     ///< seen while it is recent
  landmark,  ///< seen when it is no longer recent, too
  initial,   ///< a landmark that is never dropped; the first tokens of a sequence
};

/// What a rule may look at when it is asked what the next query sees. Numbers of keys are those of the query before.
struct History {
  Index next = 0;            ///< position of the next query: so many tokens came before it
  Index begin = 0;           ///< where the recent tokens began
  Index seen = 0;            ///< keys, the query's own included
  Index landmarks = 0;       ///< of these, landmarks before `begin`, initial ones not counted
  Index most_landmarks = 0;  ///< the largest that number has been
  Index last_landmark = -1;  ///< position of the latest landmark before `next`; -1: none
};

/// No bound on a number of tokens, and the window of a layer that sees everything.
inline constexpr Index unlimited = std::numeric_limits<Index>::max();

/// What the next query sees.
struct Recall {
  Index begin = 0;              ///< recent tokens begin here; not before History::begin
  Index landmarks = unlimited;  ///< at most so many landmarks, the latest ones; initial ones are not counted
  bool forget = false;          ///< the landmarks before History::begin go, whatever their number
};

/// The most that a rule holds while a query is computed. A rule that knows a bound says it in `most_kept()`, so that a cache
/// can choose its pages and take no more memory than the rule will use.
struct MostKept {
  Index recent = unlimited;     ///< tokens from where the recent ones begin to the query, its own included
  Index landmarks = unlimited;  ///< older landmarks, initial ones included
  Index total = unlimited;      ///< of both, if that is less than their sum

  /// Beyond any memory there is no bound.
  [[nodiscard]] constexpr bool bounded() const noexcept {
    constexpr Index most = Index{1} << 48;
    return recent <= most && landmarks <= most;
  }
};

}  // namespace heed::inline HEED_ABI
