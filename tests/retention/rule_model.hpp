/// \file
/// What a cache should hold under a rule: the oracle's rules, fed one token at a time, with the cache's way of going back.
#pragma once

#include <algorithm>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lists/rules.hpp"
#include "oracle/anchors.hpp"
#include "oracle/separator_stream.hpp"
#include "oracle/separators.hpp"
#include "oracle/sinks.hpp"

namespace heed_test {

using oracle::Int;
using oracle::Tokens;

/// The tokens that a rule may look for have these ids.
inline const Tokens marked{1, 2};

/// A rule of heed, and the oracle's. `State` is all that a rule may remember; most remember only what they hold.
struct RuleCase {
  using State = oracle::SeparatorStream::State;

  heed::AnyRule rule = {};
  State empty = {};
  /// Feeds token number `token` of `ids`.
  std::function<oracle::Step(const Tokens& ids, State& state, Int token)> step = {};
  /// Whether a token is held by a cache that is about to see token `next`; null if that depends on the history.
  std::function<bool(const Tokens& ids, Int key, Int next)> keep = {};
  /// The table of spec 8: `evicted` is the latest evicted position, `count` tokens were fed to the rule.
  std::function<Int(const Tokens& ids, Int evicted, Int count)> floor = {};
};

[[nodiscard]] inline oracle::Marks marks(const Tokens& ids) {
  return [&ids](Int token) { return oracle::contains(marked, ids.at(std::size_t(token))); };
}

/// A rule that is a mask; `make` gives the oracle's rule for some ids.
template <class Make>
[[nodiscard]] RuleCase mask_case(heed::AnyRule rule, Make make, Int window) {
  RuleCase made{.rule = std::move(rule)};
  made.step = [make](const Tokens& ids, RuleCase::State& state, Int token) {
    const auto mask = make(ids);
    state.cache.push_back(token);
    oracle::Step step{oracle::where(state.cache, [&](Int key) { return mask.visible(token, key); }), {}};
    state.cache = oracle::where(state.cache, [&](Int key) { return mask.keep(key, token + 1); });
    step.kept = state.cache;
    return step;
  };
  made.keep = [make](const Tokens& ids, Int key, Int next) { return make(ids).keep(key, next); };
  made.floor = [window](const Tokens&, Int evicted, Int) { return evicted + window; };
  return made;
}

[[nodiscard]] inline RuleCase full_case() {
  return mask_case(
      heed::Causal{}, [](const Tokens&) { return oracle::Separators{}; }, 0);
}
[[nodiscard]] inline RuleCase window_case(Int window) {
  return mask_case(
      heed::SlidingWindow{window},
      [=](const Tokens&) {
        return oracle::Separators{oracle::no_marks(), 0, window};
      },
      window);
}
[[nodiscard]] inline RuleCase sink_case(Int initial, Int window) {
  return mask_case(
      heed::SinkWindow{initial, window},
      [=](const Tokens&) {
        return oracle::Sinks{initial, window};
      },
      window);
}
[[nodiscard]] inline RuleCase sink_after_step_case(Int initial, Int window) {
  RuleCase made = sink_case(initial, window + 1);
  made.rule = heed::SinkWindow{initial, window, heed::SinkForm::evict_after_step};
  made.step = [=](const Tokens&, RuleCase::State& state, Int token) {
    state.cache.push_back(token);
    const Tokens seen = state.cache;
    state.cache = oracle::Sinks{initial, window}.evicted(state.cache);
    return oracle::Step{seen, state.cache};
  };
  return made;
}
[[nodiscard]] inline RuleCase anchor_case(bool anchor_sees_anchors) {
  RuleCase made = mask_case(
      heed::Anchors{{1, 2}, anchor_sees_anchors},
      [=](const Tokens& ids) {
        return oracle::Anchors{marks(ids), anchor_sees_anchors};
      },
      0);
  made.floor = [](const Tokens& ids, Int, Int count) { return oracle::Anchors{marks(ids)}.last_anchor(count) + 1; };
  return made;
}
[[nodiscard]] inline RuleCase separator_case(Int initial, Int window) {
  return mask_case(
      heed::Separators{initial, window, {1, 2}},
      [=](const Tokens& ids) {
        return oracle::Separators{marks(ids), initial, window};
      },
      window);
}
[[nodiscard]] inline RuleCase grid_case(Int initial, Int window, Int distance, Int first) {
  return mask_case(
      heed::FixedGrid{initial, window, distance, first},
      [=](const Tokens&) {
        return oracle::Separators{oracle::every(distance, first), initial, window};
      },
      window);
}
[[nodiscard]] inline RuleCase stream_case(const heed::SeparatorStream& rule) {
  oracle::SeparatorStream stream{rule.initial, rule.separators, rule.local, rule.capacity};
  if (rule.form == heed::StreamForm::sep_cache) stream.form = oracle::SeparatorStream::Form::sep_cache;
  stream.accumulate = rule.accumulate;
  stream.bounded = rule.bounded;
  const Int prompt = rule.prompt;
  const auto step = [=](const Tokens& ids, RuleCase::State& state, Int token) {
    if (token < prompt) {
      state.cache.push_back(token);
      return oracle::Step{state.cache, state.cache};
    }
    oracle::SeparatorStream marked_stream = stream;
    marked_stream.separator = marks(ids);
    return marked_stream.step(state, token);
  };
  // Tokens at the last compression.
  const auto floor = [=](const Tokens& ids, Int, Int count) {
    RuleCase::State state = stream.empty();
    Int last = 0;
    for (Int t = 0; t < count; ++t) {
      const Int length = Int(state.cache.size()) + 1, capacity = state.capacity;
      step(ids, state, t);
      const bool full = stream.form == oracle::SeparatorStream::Form::manager ? length > capacity : length >= capacity;
      if (full && t >= prompt) last = t + 1;
    }
    return last;
  };
  return {.rule = rule, .empty = stream.empty(), .step = step, .keep = nullptr, .floor = floor};
}

/// A rule that keeps everything by its parameters.
[[nodiscard]] inline RuleCase endless_case(heed::AnyRule rule) {
  RuleCase made = full_case();
  made.rule = std::move(rule);
  return made;
}

/// Names of all rules, which are those of random_case().
inline const std::vector<const char*> rule_kinds = [] {
  std::vector<const char*> names;
  for (const heed_examples::RuleKind& kind : heed_examples::rule_kinds()) names.push_back(kind.name);
  return names;
}();
/// Those whose rules are masks: they have no history.
inline const std::vector<const char*> mask_kinds = [] {
  std::vector<const char*> names;
  for (const heed_examples::RuleKind& kind : heed_examples::rule_kinds()) {
    if (!kind.rule().has_history()) names.push_back(kind.name);
  }
  return names;
}();

/// Kinds of rules that keep everything.
inline constexpr const char* endless_kinds[] = {"endless_window", "endless_separators", "endless_grid"};

/// A rule of that kind with small random parameters. A new rule needs its model here, made of an oracle that shares no code
/// with the rule.
[[nodiscard]] inline RuleCase random_case(const std::string& kind, std::mt19937_64& random) {
  const auto pick = [&](Int least, Int most) { return least + Int(random() % std::uint64_t(most - least + 1)); };
  const Int initial = pick(0, 5), window = pick(1, 20);
  if (kind == "full") return full_case();
  if (kind == "window") return window_case(window);
  if (kind == "sinks") return sink_case(initial, window);
  if (kind == "sinks_after_step") return sink_after_step_case(initial, window);
  if (kind == "anchors") return anchor_case(pick(0, 1) == 1);
  if (kind == "separators") return separator_case(initial, window);
  if (kind == "grid") return grid_case(initial, window, pick(1, 7), pick(0, 6));
  if (kind == "endless_window") return endless_case(heed::SlidingWindow{heed::unlimited});
  if (kind == "endless_separators") return endless_case(heed::Separators{initial, heed::unlimited, {1, 2}});
  if (kind == "endless_grid") return endless_case(heed::FixedGrid{initial, Int{1} << 50, 2, 1});
  if (kind != "stream" && kind != "sep_cache")
    throw std::invalid_argument("tests/retention/rule_model.hpp has no " + kind);
  heed::SeparatorStream rule{.initial = pick(0, 4), .separators = pick(1, 4), .local = pick(1, 6), .ids = {1, 2}};
  rule.capacity = rule.initial + rule.separators + rule.local + pick(1, 8);
  rule.form = kind == "stream" ? heed::StreamForm::manager : heed::StreamForm::sep_cache;
  rule.accumulate = pick(0, 3) > 0;
  rule.bounded = pick(0, 3) > 0;
  rule.prompt = pick(0, 1) * pick(0, 20);
  return stream_case(rule);
}

/// A cache's tokens under one rule. Eviction waits `undo` tokens; what is gone does not come back with truncate(), and what
/// was removed is not seen again, as if a mask hid it.
class RuleModel {
 public:
  explicit RuleModel(RuleCase rule, Int undo = 0) : case_(std::move(rule)), undo_(undo), states_{case_.empty} {}

  [[nodiscard]] const heed::AnyRule& rule() const { return case_.rule; }
  [[nodiscard]] Int seen() const { return Int(ids_.size()); }
  [[nodiscard]] const Tokens& ids() const { return ids_; }
  /// Positions, ascending.
  [[nodiscard]] const Tokens& held() const { return held_; }
  /// What the query of token `token` saw of all that the rule keeps.
  [[nodiscard]] const Tokens& seen_by(Int token) const { return steps_.at(std::size_t(token)).seen; }
  /// The same, without what was removed before.
  [[nodiscard]] Tokens seen_of(const Tokens& available, Int token) const {
    return oracle::where(seen_by(token), [&](Int key) { return oracle::contains(available, key); });
  }

  /// One commit. `later`: what the step could see goes with the next one.
  void append(const Tokens& ids, bool later = false) {
    for (const Int id : ids) {
      ids_.push_back(id);
      states_.push_back(states_.back());
      steps_.push_back(case_.step(ids_, states_.back(), seen() - 1));
      held_.push_back(seen() - 1);
    }
    released_ = std::max(released_, seen() - std::max(undo_, later ? Int(ids.size()) : 0));
    const Tokens rule_keeps = released_ > 0 ? steps_[std::size_t(released_ - 1)].kept : Tokens();
    held_ = oracle::where(held_, [&](Int key) {
      if (key >= released_) return true;
      return case_.keep ? case_.keep(ids_, key, released_) : oracle::contains(rule_keeps, key);
    });
    note_evicted();
  }
  void truncate(Int tokens) {
    ids_.resize(std::size_t(tokens));
    steps_.resize(std::size_t(tokens));
    states_.resize(std::size_t(tokens) + 1);
    held_ = oracle::where(held_, [&](Int key) { return key < tokens; });
    released_ = std::min(released_, tokens);
    if (tokens == 0) evicted_ = -1, removed_ = false;
  }
  void remove(Int begin, Int end) {
    const std::size_t before = held_.size();
    held_ = oracle::where(held_, [&](Int key) { return key < begin || key >= end; });
    removed_ |= held_.size() < before;
  }
  /// Only these stay.
  void compact(const Tokens& keep) {
    const std::size_t before = held_.size();
    held_ = oracle::where(held_, [&](Int key) { return oracle::contains(keep, key); });
    removed_ |= held_.size() < before;
  }
  /// Whether tokens were removed since the cache was empty. A cache may then go back less far than floor() says.
  [[nodiscard]] bool removed() const { return removed_; }
  [[nodiscard]] Int floor() const {
    if (!case_.keep) return case_.floor(ids_, evicted_, released_);
    if (evicted_ < 0) return 0;
    return std::min(seen(), case_.floor(ids_, evicted_, released_));
  }

 private:
  void note_evicted() {
    Int latest = seen() - 1;
    while (oracle::contains(held_, latest)) --latest;
    evicted_ = std::max(evicted_, latest);
  }

  RuleCase case_;
  Int undo_;
  Tokens ids_;
  std::vector<RuleCase::State> states_;  // after so many tokens
  oracle::Trace steps_;
  Tokens held_;
  Int released_ = 0;  // the rule has evicted for so many tokens
  Int evicted_ = -1;
  bool removed_ = false;
};

}  // namespace heed_test
