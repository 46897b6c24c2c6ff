/// \file
/// A mask with its type erased, so that the kernel is compiled once for all masks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include <heed/checked.hpp>
#include <heed/retention/rule_fingerprint.hpp>

namespace heed::inline HEED_ABI {

/// Any AttentionMask or GroupedMask, or none. A trivially copyable mask of at most 96 bytes is copied if it has a copy
/// constructor, so a temporary may be given. Masks of rules and of a cache's views are of this kind. Any other mask is
/// referred to and must outlive the MaskRef; a temporary of that kind does not compile.
class MaskRef {
  static constexpr std::size_t most_copied = 96;  // bytes

 public:
  /// true if masks of type M are copied.
  template <class M>
  static constexpr bool copies = std::conjunction_v<std::is_trivially_copyable<M>, std::is_copy_constructible<M>> &&
                                 sizeof(M) <= most_copied && alignof(M) <= alignof(std::max_align_t);

  /// No mask is given.
  MaskRef() = default;
  /// A copy of `mask`, or a reference to it: see copies.
  /// \{
  template <class M>
    requires(AttentionMask<std::remove_cvref_t<M>> && !GroupedMask<std::remove_cvref_t<M>> &&
             !std::same_as<std::remove_cvref_t<M>, MaskRef>)
  MaskRef(M&& mask)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
  noexcept : MaskRef(static_cast<const std::remove_cvref_t<M>&>(mask), std::is_lvalue_reference<M>{}) {}
  template <class M>
    requires GroupedMask<std::remove_cvref_t<M>>
  MaskRef(M&& mask)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
  noexcept : MaskRef(static_cast<const std::remove_cvref_t<M>&>(mask), std::is_lvalue_reference<M>{}) {}
  /// \}

  /// true if there is a mask. Without one only grouped(), has_text_positions(), text_position(), split(), near_keys() and
  /// far_keys() may be called.
  [[nodiscard]] explicit operator bool() const noexcept { return one_ != nullptr; }

  /// true if answers depend on the KV head (GroupedMask). Otherwise one answer serves all KV heads.
  [[nodiscard]] bool grouped() const noexcept { return one_ != nullptr && one_->grouped; }
  /// What the mask's coverage() says of this KV head.
  [[nodiscard]] Coverage coverage(Interval queries, Interval keys, Index kv_head) const {
    return one_->coverage(mask_, queries, keys, kv_head);
  }

  /// Sets bit k of `bits` if `query` sees the key at positions[k] of this KV head, for k in [0, count). `bits` must be
  /// zero before.
  void fill(Index query, const Index* positions, Index count, Index kv_head, std::uint64_t* bits) const {
    one_->fill(mask_, query, positions, count, kv_head, bits);
  }

  /// true if the mask has text positions of its own: several drafts may stand for one place of the text.
  [[nodiscard]] bool has_text_positions() const noexcept { return one_ != nullptr && one_->text_position != nullptr; }
  /// The place in the text of what lies at `position`; `position` itself if the mask has no text positions.
  [[nodiscard]] Index text_position(Index position) const {
    return has_text_positions() ? one_->text_position(mask_, position) : position;
  }
  /// Not ok if these keys cannot be read with the mask; the message says why.
  [[nodiscard]] Status fits(const MaskedCall& call) const { return one_->fits(mask_, call); }

  /// true if the mask is a SplitMask. Otherwise all keys are near.
  [[nodiscard]] bool split() const noexcept { return two_ != nullptr; }
  /// What SplitMask asks for. Every key is near if the mask is not a SplitMask.
  /// \{
  [[nodiscard]] NearKeys near_keys() const { return split() ? two_->near_keys(mask_) : NearKeys{}; }
  [[nodiscard]] Index far_keys() const { return split() ? two_->far_keys(mask_) : 0; }
  [[nodiscard]] Coverage near_coverage(Interval queries, Interval keys, Index kv_head) const {
    return split() ? two_->near_coverage(mask_, queries, keys) : coverage(queries, keys, kv_head);
  }
  /// \}

  // Only for a SplitMask:

  /// Writes the source indices of the far keys with these numbers to keys[0, numbers.size()).
  void far_list(Interval numbers, Index* keys) const { two_->far_list(mask_, numbers, keys); }
  /// What the mask's far_coverage() says.
  [[nodiscard]] Coverage far_coverage(Interval queries, Interval numbers) const {
    return two_->far_coverage(mask_, queries, numbers);
  }
  /// The part of `positions` whose near keys the query sees. It is one run.
  [[nodiscard]] Interval near_run(Index query, Interval positions) const {
    return two_->near_run(mask_, query, positions);
  }
  /// The part of `numbers` whose far keys the query sees. It is one run from numbers.begin on.
  [[nodiscard]] Interval far_run(Index query, Interval numbers) const { return two_->far_run(mask_, query, numbers); }

 private:
  template <class M, bool Named>
  MaskRef(const M& mask, std::bool_constant<Named>) noexcept : mask_(mask), one_(&one_list<M>) {
    static_assert(copies<M> || Named,
                  "this mask dies before it is asked: it is too large to be copied, or cannot be, so give it a name");
    static_assert(!(SplitMask<M> && GroupedMask<M>),
                  "a mask that is read in two lists cannot depend on the KV head: all heads have the same far keys");
    if constexpr (SplitMask<M>) two_ = &two_lists<M>;
  }

  struct OneList {
    Coverage (*coverage)(const void*, Interval, Interval, Index);
    void (*fill)(const void*, Index, const Index*, Index, Index, std::uint64_t*);
    Index (*text_position)(const void*, Index);  // null: text positions are positions
    Status (*fits)(const void*, const MaskedCall&);
    bool grouped;
  };
  struct TwoLists {
    NearKeys (*near_keys)(const void*);
    Index (*far_keys)(const void*);
    void (*far_list)(const void*, Interval, Index*);
    Coverage (*near_coverage)(const void*, Interval, Interval);
    Coverage (*far_coverage)(const void*, Interval, Interval);
    Interval (*near_run)(const void*, Index, Interval);
    Interval (*far_run)(const void*, Index, Interval);
  };

  /// Holds a copy of the mask, or a pointer to it.
  class Place {
   public:
    Place() = default;
    template <class M>
    explicit Place(const M& mask) noexcept {
      if constexpr (copies<M>) {
        ::new (static_cast<void*>(copy_)) M(mask);
      } else {
        elsewhere_ = &mask;
      }
    }
    operator const void*() const noexcept {  // NOLINT(google-explicit-constructor)
      return elsewhere_ != nullptr ? elsewhere_ : copy_;
    }

   private:
    alignas(std::max_align_t) std::byte copy_[most_copied] = {};
    const void* elsewhere_ = nullptr;
  };

  template <class M>
  [[nodiscard]] static const M& as(const void* mask) noexcept {
    return *static_cast<const M*>(mask);
  }
  // The first i in [begin, end) with holds(i), or `end`. If holds(i) is true, it must be true for all later i.
  template <class Holds>
  [[nodiscard]] static Index bisect(Index begin, Index end, const Holds& holds) {
    while (begin < end) {
      const Index middle = begin + (end - begin) / 2;
      if (holds(middle)) {
        end = middle;
      } else {
        begin = middle + 1;
      }
    }
    return begin;
  }

  template <class M>
  [[nodiscard]] static Coverage coverage_of(const void* mask, Interval queries, Interval keys,
                                            [[maybe_unused]] Index kv_head) {
    if constexpr (GroupedMask<M>) {
      return as<M>(mask).coverage(queries, keys, kv_head);
    } else {
      return as<M>(mask).coverage(queries, keys);
    }
  }
  template <class M>
  static void fill_of(const void* mask, Index query, const Index* positions, Index count,
                      [[maybe_unused]] Index kv_head, std::uint64_t* bits) {
    const auto visible = [&](Index key) {
      if constexpr (GroupedMask<M>) {
        return as<M>(mask).visible(query, key, kv_head);
      } else {
        return as<M>(mask).visible(query, key);
      }
    };
    for (Index k = 0; k < count; ++k) bits[k / 64] |= std::uint64_t(visible(positions[k])) << (k % 64);
  }
  template <class M>
  [[nodiscard]] static constexpr auto text_position_of() -> Index (*)(const void*, Index) {
    if constexpr (requires(const M& m, Index i) { m.text_position(i); }) {
      return [](const void* m, Index position) { return as<M>(m).text_position(position); };
    } else {
      return nullptr;
    }
  }
  template <class M>
  [[nodiscard]] static Status mask_fits(const void* mask, const MaskedCall& call) {
    if constexpr (requires(const M& m, Status s) { s = m.validate(); }) {
      if (Status status = as<M>(mask).validate(); !status.ok()) return fail(status.code(), "mask: ", status.message());
    }
    if constexpr (requires(const M& m) { m.fits(call); }) {
      return as<M>(mask).fits(call);
    } else {
      if (call.rule == nullptr) return {};
      if constexpr (Retention<M>) {
        if (fingerprint_of(as<M>(mask)) == call.rule_fingerprint) return {};
      }
      return fail(StatusCode::invalid_argument, "mask does not know rule ", call.rule,
                  ", by which the cache of keys forgets: give none, and the cache says what a query sees");
    }
  }

  template <class M>
  static constexpr OneList one_list{coverage_of<M>, fill_of<M>, text_position_of<M>(), mask_fits<M>, GroupedMask<M>};

  template <class M>
  static constexpr TwoLists two_lists{
      [](const void* m) { return as<M>(m).near_keys(); },
      [](const void* m) { return as<M>(m).far_keys(); },
      [](const void* m, Interval numbers, Index* keys) {
        for (Index i = numbers.begin; i < numbers.end; ++i) *keys++ = as<M>(m).far_key(i);
      },
      [](const void* m, Interval queries, Interval keys) { return as<M>(m).near_coverage(queries, keys); },
      [](const void* m, Interval queries, Interval numbers) { return as<M>(m).far_coverage(queries, numbers); },
      [](const void* m, Index query, Interval positions) {
        const Index end = std::clamp(detail::moved_position(query, 1), positions.begin, positions.end);
        return Interval{bisect(positions.begin, end, [&](Index i) { return as<M>(m).near_visible(query, i); }), end};
      },
      [](const void* m, Index query, Interval numbers) {
        const Index end = bisect(numbers.begin, numbers.end, [&](Index i) { return !as<M>(m).far_visible(query, i); });
        return Interval{numbers.begin, end};
      }};

  Place mask_;
  const OneList* one_ = nullptr;
  const TwoLists* two_ = nullptr;
};

}  // namespace heed::inline HEED_ABI
