/// \file
/// Small rules of every kind.
#pragma once

#include <heed/retention/anchors.hpp>
#include <heed/retention/any_rule.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>

#include "fuzz/bytes.hpp"

namespace heed_fuzz {

/// Tokens 1 and 2 are marks.
[[nodiscard]] inline heed::AnyRule rule(Bytes& in) {
  const heed::Index initial = in.pick(0, 4), window = in.pick(1, 9);
  switch (in.pick(0, 6)) {
    case 0: return heed::Causal{};
    case 1: return heed::SlidingWindow{window};
    case 2: return heed::SinkWindow{initial, window};
    case 3: return heed::SinkWindow{initial, window, heed::SinkForm::evict_after_step};
    case 4: return heed::Anchors{{1, 2}, in.one_in(2)};
    case 5: return heed::Separators{initial, window, {1, 2}};
    default: {
      heed::SeparatorStream stream{.initial = initial, .separators = 1 + window / 3, .local = window, .ids = {1, 2}};
      stream.capacity = stream.initial + stream.separators + stream.local + in.pick(1, 5);
      if (in.one_in(2)) stream.form = heed::StreamForm::sep_cache;
      return stream;
    }
  }
}

}  // namespace heed_fuzz
