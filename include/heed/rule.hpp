/// \file
/// The vocabulary of retention rules: what a token is to a rule, what a rule may look at, and what it answers.
///
/// Every rule of heed has one shape. A query sees the recent tokens [begin, query], and of the older tokens the
/// landmarks: separators, anchors, the first tokens. So a rule says of each token whether it is a landmark, and of each
/// query where the recent tokens begin. A token that is neither recent for the next query nor a landmark is evicted.
#pragma once

#include <cstdint>

#include <heed/checked.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// The id of a token that came without an id.
inline constexpr std::int32_t no_token_id = -1;

/// What a token is to a rule.
enum class Role : std::uint8_t {
  plain,     ///< seen while it is recent
  landmark,  ///< stays visible when it is no longer recent
  initial,   ///< one of the first tokens: a landmark that is never dropped
};

/// What a rule may look at when it is asked what the next query sees. All but `next` and `last_landmark` speak of the
/// query before it.
struct History {
  Index next = 0;            ///< position of the next query: the number of tokens before it
  Index begin = 0;           ///< position of the first recent token
  Index seen = 0;            ///< visible keys, the query's own included
  Index landmarks = 0;       ///< how many of these are landmarks before `begin`; initial ones are not counted
  Index most_landmarks = 0;  ///< the largest value that `landmarks` has had
  Index last_landmark = -1;  ///< position of the latest landmark before `next`; -1: there is none
};

/// No bound on a number of tokens. Also the window of a layer that sees everything.
inline constexpr Index unlimited = count_limit;

/// What the next query sees.
struct Recall {
  Index begin = 0;              ///< position of the first recent token; not before History::begin
  Index landmarks = unlimited;  ///< how many landmarks are kept at most: the latest ones; initial ones are not counted
  bool forget = false;          ///< true: all landmarks before History::begin are dropped, except initial ones
};

/// The most tokens that a rule keeps while a query is computed. A rule that knows a bound returns it from
/// `most_kept()`. A cache then chooses its page size by it, and takes no more memory than the rule will use.
struct MostKept {
  Index recent = unlimited;     ///< recent tokens, the query's own included
  Index landmarks = unlimited;  ///< older landmarks, initial ones included
  Index total = unlimited;      ///< both together, if that is less than their sum
  bool everything = false;      ///< true: a query sees every token before it, so the cache acts as under Causal

  /// true if there is a bound. A bound of more than 2^48 tokens is none: no memory holds as many.
  [[nodiscard]] constexpr bool bounded() const noexcept {
    return recent <= detail::most_tokens && landmarks <= detail::most_tokens;
  }
};

}  // namespace heed::inline HEED_ABI
