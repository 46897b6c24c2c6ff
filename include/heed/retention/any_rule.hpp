/// \file
/// A retention rule with its type erased, so a cache is compiled once for all rules. The cache asks it once per token,
/// never per key.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include <heed/retention/full.hpp>
#include <heed/retention/rule_fingerprint.hpp>
#include <heed/retention/token_set.hpp>

namespace heed::inline HEED_ABI {

/// Any Retention as an immutable value. Copies share one rule.
class AnyRule {
 public:
  /// A move is a copy, so that one that was moved from is still the rule.
  AnyRule(const AnyRule&) = default;
  AnyRule& operator=(const AnyRule&) = default;
  ~AnyRule() = default;
  /// Keeps everything.
  AnyRule() : AnyRule(Causal{}) {}
  /// Takes a copy of `rule`. Allocates from the C++ heap.
  template <Retention R>
    requires(!std::same_as<std::remove_cvref_t<R>, AnyRule>)
  AnyRule(R rule)  // NOLINT(google-explicit-constructor)
      : rule_(std::make_shared<const Model<R>>(std::move(rule))) {}
  /// For better compile errors: a class that is no rule selects this constructor, and the compiler names what the
  /// concept misses. Classes with begin() are left out, because a list of LayerRule may stand in place of a rule.
  template <class R>
    requires(std::is_class_v<R> && !Retention<R> && !std::derived_from<R, AnyRule> &&
             !requires(const R& list) { list.begin(); })
  AnyRule(const R& /*no rule*/) {  // NOLINT(google-explicit-constructor)
    static_assert(Retention<R>, "this type is no rule: see concept Retention in concepts.hpp");
  }

  /// What Retention asks for (concepts.hpp): the rule's own answers.
  /// \{
  [[nodiscard]] const char* name() const noexcept { return rule_->name(); }
  [[nodiscard]] bool has_history() const noexcept { return rule_->has_history(); }
  [[nodiscard]] bool has_ranks() const noexcept { return rule_->has_ranks(); }
  [[nodiscard]] Status validate() const { return rule_->validate(); }
  [[nodiscard]] bool needs_ids() const noexcept { return rule_->needs_ids(); }
  [[nodiscard]] bool evicts_before_step() const noexcept { return rule_->evicts_before_step(); }
  [[nodiscard]] Role role(Index position, std::int32_t id) const noexcept { return rule_->role(position, id); }
  [[nodiscard]] bool sees_landmarks(Index position, std::int32_t id) const noexcept {
    return rule_->sees_landmarks(position, id);
  }
  [[nodiscard]] Recall recall(const History& history) const noexcept { return rule_->recall(history); }
  [[nodiscard]] Index rollback_floor(Index evicted, Index begin) const noexcept {
    return rule_->rollback_floor(evicted, begin);
  }
  /// The rule's bound, or none.
  [[nodiscard]] MostKept most_kept() const noexcept { return rule_->most_kept(); }
  /// Calls field(name, number) for every parameter. A set of ids gives its size first, then each id.
  void describe(FunctionRef<void(const char*, Index)> field) const { rule_->describe(field); }
  /// \}

  /// true if both are the same rule with the same parameters, by fingerprint().
  [[nodiscard]] bool same_as(const AnyRule& other) const { return fingerprint() == other.fingerprint(); }
  /// See RuleFingerprint.
  [[nodiscard]] std::uint64_t fingerprint() const {
    RuleFingerprint made(name());
    describe([&made](const char* field, Index value) { made(field, value); });
    return made.value();
  }

 private:
  struct Interface {
    virtual ~Interface() = default;
    [[nodiscard]] virtual const char* name() const noexcept = 0;
    [[nodiscard]] virtual bool has_history() const noexcept = 0;
    [[nodiscard]] virtual bool has_ranks() const noexcept = 0;
    [[nodiscard]] virtual Status validate() const = 0;
    [[nodiscard]] virtual bool needs_ids() const noexcept = 0;
    [[nodiscard]] virtual bool evicts_before_step() const noexcept = 0;
    [[nodiscard]] virtual Role role(Index, std::int32_t) const noexcept = 0;
    [[nodiscard]] virtual bool sees_landmarks(Index, std::int32_t) const noexcept = 0;
    [[nodiscard]] virtual Recall recall(const History&) const noexcept = 0;
    [[nodiscard]] virtual Index rollback_floor(Index, Index) const noexcept = 0;
    [[nodiscard]] virtual MostKept most_kept() const noexcept = 0;
    virtual void describe(FunctionRef<void(const char*, Index)>) const = 0;
  };

  template <class R>
  struct Model final : Interface {
    explicit Model(R r) : rule(std::move(r)) {}
    const char* name() const noexcept override { return R::name; }
    bool has_history() const noexcept override { return R::has_history; }
    bool has_ranks() const noexcept override { return R::has_ranks; }
    Status validate() const override { return rule.validate(); }
    bool needs_ids() const noexcept override { return rule.needs_ids(); }
    bool evicts_before_step() const noexcept override { return rule.evicts_before_step(); }
    Role role(Index position, std::int32_t id) const noexcept override { return rule.role(position, id); }
    bool sees_landmarks(Index position, std::int32_t id) const noexcept override {
      return rule.sees_landmarks(position, id);
    }
    Recall recall(const History& history) const noexcept override { return rule.recall(history); }
    Index rollback_floor(Index evicted, Index begin) const noexcept override {
      return rule.rollback_floor(evicted, begin);
    }
    MostKept most_kept() const noexcept override {
      if constexpr (requires { rule.most_kept(); }) return rule.most_kept();
      return {};
    }
    void describe(FunctionRef<void(const char*, Index)> field) const override { rule.describe(Fields{field}); }
    R rule;
  };

  struct Fields {
    FunctionRef<void(const char*, Index)> field;
    void operator()(const char* name, Index value) const { field(name, value); }
    void operator()(const char* name, const TokenSet& set) const {
      field(name, Index(set.ids().size()));
      for (const std::int32_t id : set.ids()) field(name, id);
    }
  };

  std::shared_ptr<const Interface> rule_;
};

}  // namespace heed::inline HEED_ABI
