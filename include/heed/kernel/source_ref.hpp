/// \file
/// Sources of keys and values without their type. So the loops are compiled once per codec and backend, and serve every
/// cache. The price is an indirect call per run of rows, never per key.
#pragma once

#include <string_view>
#include <type_traits>

#include <heed/concepts.hpp>
#include <heed/retention/full.hpp>
#include <heed/retention/mask_ref.hpp>

namespace heed::inline HEED_ABI::detail {

/// Type-erased KeyValueSource, or one stage of a StagedSource. The keys of a SlottedSource are its slots. Not owned.
struct SourceRef {
  const void* source = nullptr;
  Index stage = 0;
  RowRun (*row_run_)(const void*, Index, int, Index, Index, Index) = nullptr;
  Index (*position_)(const void*, Index, Index) = nullptr;
  Interval (*next_hole_)(const void*, Index, Index) = nullptr;  // null: no holes
  RowBase (*base_)(const void*, int, Index) = nullptr;          // null: not an OffsetSource

  template <KeyValueSource S>
  [[nodiscard]] static SourceRef to(const S& source) noexcept {
    SourceRef made{&source, 0,
                   [](const void* s, Index, int stream, Index head, Index first, Index max) {
                     return slot_row_run(*static_cast<const S*>(s), stream, head, first, max);
                   },
                   [](const void* s, Index, Index key) { return slot_position(*static_cast<const S*>(s), key); }};
    if constexpr (OffsetSource<S>) made.base_ = base_of<S>;
    if constexpr (SlottedSource<S>) {
      if (source.next_hole(0).begin < source.slots()) {
        made.next_hole_ = [](const void* s, Index, Index slot) { return static_cast<const S*>(s)->next_hole(slot); };
      }
    }
    return made;
  }
  template <StagedSource S>
  [[nodiscard]] static SourceRef to_stage(const S& source, Index stage) noexcept {
    SourceRef made{&source, stage,
                   [](const void* s, Index n, int stream, Index head, Index first, Index max) {
                     return static_cast<const S*>(s)->stage_row_run(n, stream, head, first, max);
                   },
                   [](const void* s, Index n, Index key) { return static_cast<const S*>(s)->stage_position(n, key); }};
    if constexpr (OffsetSource<S>) made.base_ = base_of<S>;
    if constexpr (requires { source.stage_hole(stage, stage); }) {
      if (source.stage_hole(stage, 0).begin < source.stage_size(stage)) {
        made.next_hole_ = [](const void* s, Index n, Index key) {
          return static_cast<const S*>(s)->stage_hole(n, key);
        };
      }
    }
    return made;
  }
  [[nodiscard]] RowRun row_run(int stream, Index head, Index first, Index max) const {
    return row_run_(source, stage, stream, head, first, max);
  }
  [[nodiscard]] Index position(Index key) const { return position_(source, stage, key); }
  [[nodiscard]] bool has_holes() const noexcept { return next_hole_ != nullptr; }
  [[nodiscard]] Interval next_hole(Index key) const { return next_hole_(source, stage, key); }
  [[nodiscard]] bool has_base() const noexcept { return base_ != nullptr; }
  [[nodiscard]] RowBase base(int stream, Index head) const { return base_(source, stream, head); }

 private:
  template <OffsetSource S>
  [[nodiscard]] static RowBase base_of(const void* source, int stream, Index head) {
    return static_cast<const S*>(source)->base(stream, head);
  }
};

/// A source with a mask of its own, which lives as long as the source.
template <class S>
concept MaskedSource = requires(const S& source) {
  requires KernelMask<std::remove_cvref_t<decltype(source.mask())>>;
  requires std::is_lvalue_reference_v<decltype(source.mask())>;
};

/// The mask of a stage that has none of its own.
inline constexpr Causal causal_stage;

/// One stage of a StagedSource.
struct StageRef {
  Interval queries;  ///< the queries that it serves
  SourceRef source;
  Index size = 0;  ///< number of its keys
  MaskRef mask;    ///< no mask: causal, end-aligned
};

/// What a call asks of a codec.
struct CodecRef {
  const char* name = "";
  Index view_step = 1;
  Index (*factor_bytes)(Index width) = nullptr;

  template <Codec C>
  [[nodiscard]] static constexpr CodecRef to() noexcept {
    return {C::name, C::view_step, [](Index width) -> Index { return C::factor_bytes(width); }};
  }
};

/// What a call asks of sources of one type, each by its address. A null function: sources of this type do not have it.
struct SourceTable {
  CodecRef key_codec;
  CodecRef value_codec;
  Index (*size)(const void*) = nullptr;
  Index (*position)(const void*, Index key) = nullptr;
  Index (*slots)(const void*) = nullptr;  // slots_of()
  Index (*slot_position)(const void*, Index slot) = nullptr;
  Index (*end)(const void*) = nullptr;        // end_of()
  Index (*slots_end)(const void*) = nullptr;  // slots_end_of()
  SourceRef (*ref)(const void*) = nullptr;
  MaskRef (*mask)(const void*) = nullptr;
  Index (*stages)(const void*) = nullptr;
  StageRef (*stage)(const void*, Index number) = nullptr;
  Status (*readable)(const void*, bool policy_rotates) = nullptr;
  Status (*current)(const void*) = nullptr;  // what readable() says before rows are written
  SourceIdentity (*identity)(const void*) = nullptr;
  Status (*validate)(const void*, const AttentionLayout&) = nullptr;
  Status (*answers)(const void*, Interval positions) = nullptr;
  void (*layout)(const void*, AttentionLayout&) = nullptr;
  void (*cache)(const void*, MaskedCall&) = nullptr;  // sets what a cache says of itself

  template <KeyValueSource S>
  [[nodiscard]] static constexpr SourceTable make() {
    SourceTable made{.key_codec = CodecRef::to<typename S::KeyCodec>(),
                     .value_codec = CodecRef::to<typename S::ValueCodec>(),
                     .size = [](const void* s) -> Index { return as<S>(s).size(); },
                     .position = [](const void* s, Index key) -> Index { return as<S>(s).position(key); },
                     .slots = [](const void* s) { return slots_of(as<S>(s)); },
                     .slot_position = [](const void* s, Index n) { return detail::slot_position(as<S>(s), n); },
                     .end = [](const void* s) { return end_of(as<S>(s)); },
                     .slots_end = [](const void* s) { return slots_end_of(as<S>(s)); },
                     .ref = [](const void* s) { return SourceRef::to(as<S>(s)); }};
    if constexpr (MaskedSource<S>) made.mask = [](const void* s) { return MaskRef(as<S>(s).mask()); };
    if constexpr (StagedSource<S>) {
      made.stages = [](const void* s) -> Index { return as<S>(s).stages(); };
      made.stage = stage_of<S>;
    }
    if constexpr (GuardedSource<S>) {
      made.readable = [](const void* s, bool rotates) -> Status { return as<S>(s).readable(rotates); };
    }
    if constexpr (requires(const S& s) {
                    { s.current() } -> std::same_as<Status>;
                  }) {
      made.current = [](const void* s) -> Status { return as<S>(s).current(); };
    }
    if constexpr (IdentifiedSource<S>) made.identity = [](const void* s) { return as<S>(s).identity(); };
    if constexpr (requires(const S& s, const AttentionLayout& wanted) { s.validate(wanted); }) {
      made.validate = [](const void* s, const AttentionLayout& wanted) -> Status { return as<S>(s).validate(wanted); };
    }
    if constexpr (AnsweringSource<S>) {
      made.answers = [](const void* s, Interval positions) -> Status { return as<S>(s).answers(positions); };
    }
    if constexpr (requires(const S& s) { s.layout(); }) {
      made.layout = [](const void* s, AttentionLayout& to) { to = as<S>(s).layout(); };
    }
    if constexpr (requires(const S& s) { s.tokens()->forgets_by(); }) made.cache = cache_of<S>;
    return made;
  }

 private:
  template <class S>
  [[nodiscard]] static const S& as(const void* source) noexcept {
    return *static_cast<const S*>(source);
  }
  template <StagedSource S>
  [[nodiscard]] static StageRef stage_of(const void* source, Index stage) {
    const S& keys = as<S>(source);
    StageRef made{keys.stage_queries(stage), SourceRef::to_stage(keys, stage), keys.stage_size(stage), {}};
    if constexpr (requires { keys.stage_mask(stage); }) made.mask = keys.stage_mask(stage);
    return made;
  }
  template <class S>
  static void cache_of(const void* source, MaskedCall& call) {
    const S& keys = as<S>(source);
    call.change = keys.change();
    call.asked_positions = keys.asked_positions();
    if (keys.tokens() == nullptr) return;
    call.tokens = keys.tokens()->number();
    call.rule = keys.tokens()->forgets_by();
    call.rule_fingerprint = keys.tokens()->rule_fingerprint();
  }
};

/// The table of sources of type `S`.
template <KeyValueSource S>
inline constexpr SourceTable source_table = SourceTable::make<S>();

}  // namespace heed::inline HEED_ABI::detail
