/// \file
/// The five concepts heed is made of. Read this file first.
///
/// KV bytes per token = what a token leaves (policy) x how an element is stored (codec) x which tokens stay
/// (retention). One kernel, attend(), reads a policy's description, asks a cache for rows and a mask for visibility,
/// runs its inner loops on a SIMD backend, and spreads its tasks over an executor. No implementation of one concept
/// needs to know an implementation of another. In which arithmetic queries meet rows is one more choice: Math
/// (math/math.hpp), by default math::F32.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <heed/codec/f32.hpp>
#include <heed/codec/reader.hpp>
#include <heed/matrix.hpp>
#include <heed/rule.hpp>
#include <heed/simd/panel_factors.hpp>
#include <heed/simd/tile.hpp>
#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// The map or preparation of a policy that has none. A policy must say so: there are no silent defaults.
struct Identity {};

/// A linear map per query head, before or after the kernel: out[r] = map_head(in[r]) for r in [0, rows).
/// in [rows][in_width()], its rows `in_stride` floats apart; out [rows][out_width()], its rows `out_stride` floats
/// apart. They do not overlap. `linear` is the backend's matrix product.
template <class M>
concept HeadMap = requires(const M& map, Index head, Index rows, const float* in, Index stride, float* out,
                           Linear linear) {
  { map.in_width() } -> std::same_as<Index>;
  { map.out_width() } -> std::same_as<Index>;
  map.apply(head, rows, in, stride, out, stride, linear);
};

/// What a policy has before or after the kernel: Identity or a HeadMap.
template <class M>
concept EdgeMap = std::same_as<std::remove_cvref_t<M>, Identity> || HeadMap<std::remove_cvref_t<M>>;

/// 1. A description of a mechanism: what is cached, and how the kernel reads it. It has no loop over tokens.
///
/// `layout()` gives streams, views, head counts and scale. `key_stream` and `value_stream` are the streams of its key
/// view and its value view. `validate()` is invalid_argument if an option is wrong. `query_map()` and `output_map()`
/// are linear maps before and after the kernel (HeadMap, or Identity). `preparation()` makes keys or values from stored
/// rows inside the kernel (RowPreparation, or Identity). Maps and preparations may point into the policy, which outlives
/// the call.
template <class P>
concept AttentionPolicy = requires(const P& policy) {
  { P::key_stream } -> std::convertible_to<int>;
  { P::value_stream } -> std::convertible_to<int>;
  { policy.validate() } -> std::same_as<Status>;
  { policy.layout() } -> std::same_as<AttentionLayout>;
  { policy.query_map() } -> EdgeMap;
  { policy.output_map() } -> EdgeMap;
  policy.preparation();
};

/// Makes keys from some stored rows of a chunk, and values if makes_values() is true. The kernel reads these instead.
///
/// rows       [count][stream width] floats: decoded rows of the stream, contiguous
/// positions  [count]: positions of the rows in their text
/// linear     the backend's matrix product
///
/// Three members are optional. `idle()` is true if there is nothing to make: the kernel then reads the stored rows.
/// `turns()` is a KeyTurns if keys are those of the key view, rotated: the kernel may then rotate them itself.
/// `rotates_keys()` is true if keys are stored un-rotated: a cache may then give them in-cache rank positions.
template <class T>
concept RowPreparation = requires(const T& t, Index kv_head, Index count, const float* rows, const Index* positions,
                                  float* out, Linear linear) {
  { t.makes_values() } -> std::same_as<bool>;
  t.keys(kv_head, count, rows, positions, out, linear);    // [count][key_width]
  t.values(kv_head, count, rows, positions, out, linear);  // [count][value_width]; called only if makes_values()
};

namespace detail {

/// true if the policy rotates stored keys by their position when it reads them.
template <AttentionPolicy P>
[[nodiscard]] bool rotates_keys(const P& policy) {
  if constexpr (requires { policy.preparation().rotates_keys(); }) return policy.preparation().rotates_keys();
  return false;
}

}  // namespace detail

/// How a row of numbers is stored: number = factor * code. Memory may have any alignment.
///
///     factors               which factors a row has (Factors). A factor is a finite float
///     view_step             a view's offset must be a multiple of this many numbers; divides 32
///     row_alignment         rows begin at multiples of this many bytes in a page, a power of two: the padding of rows
///     row_bytes(n)          bytes of a row of n numbers, and of its factors if they lie in the row; ascending in n
///     factor_bytes(n)       bytes of the row's entry in the page's plane of factors; 0 if factors lie in the row
///     offset_bytes(n)       where code n of a row begins; n is a multiple of view_step
///     encode(in, n, row, entry)         stores n numbers, and their factors in the row or in its entry. Rounds to
///                                       nearest even in every rounding mode
///     codes(row, first, n, out)         codes [first, first + n) as floats, exactly. Reads no byte beyond them
///     factor(row, entry, i)             factor i of a row with factors. `entry` is null if factor_bytes() is 0
///     Reader<V>                         how registers are filled (detail::RowReader)
template <class C>
concept Codec = requires(const float* numbers, const std::byte* stored, std::byte* store, float* out, Index n) {
  { C::name } -> std::convertible_to<const char*>;
  requires std::same_as<const Factors, decltype(C::factors)>;
  { C::view_step } -> std::convertible_to<Index>;
  requires C::view_step > 0 && factor_dims % C::view_step == 0;
  { C::row_alignment } -> std::convertible_to<Index>;
  requires C::row_alignment > 0 && (C::row_alignment & (C::row_alignment - 1)) == 0;
  { C::row_bytes(n) } -> std::same_as<Index>;
  { C::factor_bytes(n) } -> std::same_as<Index>;
  { C::offset_bytes(n) } -> std::same_as<Index>;
  C::encode(numbers, n, store, store);
  C::codes(stored, n, n, out);
  requires detail::HasFactors<C>;
  requires detail::RowReader<C, detail::AnyLanes<4>>;
  requires detail::RowReader<C, detail::AnyLanes<8>>;
  requires detail::RowReader<C, detail::AnyLanes<16>>;
};

/// 2. What the kernel asks of a cache: how many keys there are, where each lies, and which position it has.
///
/// `size()` is the number of keys. `row_run(stream, head, first, max)` is a run of rows from key `first` on that share a
/// stride: at least one row, at most `max`. Longer runs are faster. Contiguous memory can answer with `max` rows; a
/// paged cache stops at the end of a page. `position(i)` is the logical token index of key i. Positions are strictly
/// increasing. position(i) is i if nothing was evicted or removed and the text began at 0.
template <class C>
concept KeyValueSource = requires(const C& cache, int stream, Index n) {
  requires Codec<typename C::KeyCodec>;
  requires Codec<typename C::ValueCodec>;
  { cache.size() } -> std::same_as<Index>;
  { cache.row_run(stream, n, n, n) } -> std::same_as<RowRun>;
  { cache.position(n) } -> std::same_as<Index>;
};

/// A source that can refuse to be read. `readable(policy_rotates)` is not ok if it cannot be read now, or not by a
/// policy that rotates keys at read (policy_rotates), or not by one that does not. attend() then fails with that
/// Status.
template <class S>
concept GuardedSource = KeyValueSource<S> && requires(const S& source, bool policy_rotates) {
  { source.readable(policy_rotates) } -> std::same_as<Status>;
};

/// A source that the kernel reads by *slots*. Each slot holds a key, in order, or is a *hole*: its key was removed, and
/// no query sees it, whatever the mask says. So removing a key does not change the slots of other keys.
///
/// `next_hole(slot)` is the first run of holes that ends after `slot`; without one it begins at slots() or later. The
/// rows of a hole can be read; their contents have no meaning. In a SplitMask over such a source, key indices are
/// slots.
template <class S>
concept SlottedSource = KeyValueSource<S> && requires(const S& source, int stream, Index n) {
  { source.slots() } -> std::same_as<Index>;
  { source.slot_row_run(stream, n, n, n) } -> std::same_as<RowRun>;  // as row_run()
  { source.slot_position(n) } -> std::same_as<Index>;                // as position()
  { source.next_hole(n) } -> std::same_as<Interval>;
};

namespace detail {

/// Number of keys of a source as the kernel counts them: its slots if it is a SlottedSource.
template <KeyValueSource S>
[[nodiscard]] Index slots_of(const S& source) {
  if constexpr (SlottedSource<S>) {
    return source.slots();
  } else {
    return source.size();
  }
}
template <KeyValueSource S>
[[nodiscard]] Index slot_position(const S& source, Index slot) {
  if constexpr (SlottedSource<S>) {
    return source.slot_position(slot);
  } else {
    return source.position(slot);
  }
}
template <KeyValueSource S>
[[nodiscard]] RowRun slot_row_run(const S& source, int stream, Index head, Index first, Index max) {
  if constexpr (SlottedSource<S>) {
    return source.slot_row_run(stream, head, first, max);
  } else {
    return source.row_run(stream, head, first, max);
  }
}
/// Position of the last key, plus 1; 0 without keys. Holes behind it do not count.
template <KeyValueSource S>
[[nodiscard]] Index end_of(const S& source) {
  const Index keys = source.size();
  return keys == 0 ? 0 : source.position(keys - 1) + 1;
}
/// Position of the last slot, plus 1; 0 without slots.
template <KeyValueSource S>
[[nodiscard]] Index slots_end_of(const S& source) {
  const Index slots = slots_of(source);
  return slots == 0 ? 0 : slot_position(source, slots - 1) + 1;
}

}  // namespace detail

/// A source whose queries see different lists of keys within one call. Stage n serves the queries stage_queries(n) and
/// has its own list of keys; the last keys of the list are those queries' own. Within a stage queries are causal and
/// end-aligned, and a key's slot is its number in the list. A source with 0 stages is read as an ordinary source.
///
/// Two members are optional. `stage_mask(n)` is a MaskRef; if it holds a mask, that mask decides what queries see and
/// which slots keys have. `stage_hole(n, key)` gives the holes of the list, as SlottedSource::next_hole does.
template <class S>
concept StagedSource = KeyValueSource<S> && requires(const S& source, int stream, Index n) {
  { source.stages() } -> std::same_as<Index>;
  { source.stage_queries(n) } -> std::same_as<Interval>;  // in order, from 0, without gaps
  { source.stage_size(n) } -> std::same_as<Index>;
  { source.stage_row_run(n, stream, n, n, n) } -> std::same_as<RowRun>;  // stage, then as row_run()
  { source.stage_position(n, n) } -> std::same_as<Index>;                // stage, then as position()
};

/// A source whose KV heads and layers differ by offsets only, so that a plan remembers where rows lie. For one stream
/// and one key the address `row_run(stream, head, key, max).data - base(stream, head).rows` is the same number for
/// every head, and for the sources of every layer that a plan serves. The rest of the RowRun is also the same. This
/// holds also for slot_row_run() and stage_row_run(), and for the entries in a plane of factors.
template <class S>
concept OffsetSource = KeyValueSource<S> && requires(const S& source, int stream, Index head) {
  { source.base(stream, head) } -> std::same_as<RowBase>;
};

/// Identifies the keys of one step. Sources that are equal in all three numbers have the same keys at the same
/// positions, in the same stages, and RowRuns that differ by their base() only.
struct SourceIdentity {
  std::uint64_t keys = 0;    ///< number of the token list; 0: unknown, and positions are compared instead
  std::uint64_t lists = 0;   ///< number of what makes lists of keys from them, or 0
  std::uint64_t change = 0;  ///< every step has another one

  friend bool operator==(const SourceIdentity&, const SourceIdentity&) = default;
};

/// A source that says by a few numbers whether a plan that was made for another layer fits its keys.
template <class S>
concept IdentifiedSource = KeyValueSource<S> && requires(const S& source) {
  { source.identity() } -> std::same_as<SourceIdentity>;
};

/// A source that knows which queries its keys can answer. attend() asks it for the positions from the earliest query to
/// the latest, whatever the mask.
template <class S>
concept AnsweringSource = KeyValueSource<S> && requires(const S& source, Interval positions) {
  { source.answers(positions) } -> std::same_as<Status>;
};

/// What attend() tells a mask about a sequence, so that the mask can refuse it.
struct MaskedCall {
  Index queries = 0;             ///< number of queries
  Interval positions = {};       ///< from the earliest query to behind the latest
  bool query_positions = false;  ///< true if the caller gives query positions
  Index slots = 0;               ///< slots of the source: its keys and its holes
  Index end = 0;                 ///< position of the last key, plus 1
  Index slots_end = 0;           ///< position of the last slot, plus 1
  std::uint64_t tokens = 0;      ///< number of the token list that layers of a cache share; 0: not from a KvCache
  std::uint64_t change = 0;      ///< identity of that cache's open step: every step has another one
  bool asked_positions = false;  ///< true if positions() of that step was called
  const char* rule = nullptr;    ///< name of the rule by which that cache evicts; null: it keeps everything
  std::uint64_t rule_fingerprint = 0;  ///< of that rule and its parameters
};

/// 3a. Which keys a query sees. `visible(query, key)` takes two positions. `coverage(queries, keys)` takes two ranges
/// of positions: `none` and `full` are promises, `partial` is always allowed. The kernel asks `coverage` per chunk, and
/// `visible` only inside partial chunks.
///
/// Three members are optional:
///
///     text_position(position)    for a mask over drafts: the place in the text of the token at `position`. Several drafts
///                                may have one place. ALiBi and the rotation of keys at read use it
///     validate()                 a Status: not ok if a number of the mask is wrong
///     fits(MaskedCall)           a Status: not ok if the mask cannot be used with these keys
///
/// attend() fails with such a Status if it is not ok.
///
/// A mask without fits() is refused for keys of a cache that evicts, because it may show what the cache's rule hides. The
/// one exception is a mask that is this rule, with the same parameters. A mask that hides more than a rule asks the rule's
/// mask in visible(), and again in fits().
template <class M>
concept AttentionMask = requires(const M& mask, Interval queries, Interval keys, Index token) {
  { mask.coverage(queries, keys) } -> std::same_as<Coverage>;
  { mask.visible(token, token) } -> std::same_as<bool>;
};

/// A mask whose answers depend on the KV head, for example one that selects blocks of keys per KV head. All else is as
/// in AttentionMask, also the optional members and the refusals. `kv_head` is a KV head of the policy's layout, in
/// [0, num_kv_heads): every query head that reads it sees the same keys. Absorbed MLA has one KV head; expanded MLA has one
/// per query head.
///
/// The kernel asks such a mask for each KV head. If a mask also has the members of an AttentionMask, these are not asked.
/// It cannot be a SplitMask.
template <class M>
concept GroupedMask = requires(const M& mask, Interval queries, Interval keys, Index token, Index kv_head) {
  { mask.coverage(queries, keys, kv_head) } -> std::same_as<Coverage>;
  { mask.visible(token, token, kv_head) } -> std::same_as<bool>;
};

/// What attend() takes as a mask.
template <class M>
concept KernelMask = AttentionMask<M> || GroupedMask<M>;

/// 3b. A mask that is read in two lists. Every query sees the *near* keys at positions [begin(query), query]. Of the
/// *far* keys (anchors, separators, first tokens), which lie scattered before them, it sees the first few in the list,
/// or none.
///
/// Far keys are gathered through their list into dense chunks: far key number i lies in chunk i / 256. A near key lies
/// in chunk slot / 256 (NearKeys). Neither depends on what else is cached, so evicting keys that nobody sees changes no
/// bit. `far_key(i)` is the index in the source of far key number i, ascending. A key may be in both lists; for a query
/// whose near keys include it, far_visible() must be false. coverage() and visible() speak of both lists together.
template <class M>
concept SplitMask = AttentionMask<M> && requires(const M& mask, Interval queries, Interval keys, Index i) {
  { mask.near_keys() } -> std::same_as<NearKeys>;
  { mask.far_keys() } -> std::same_as<Index>;  // how many
  { mask.far_key(i) } -> std::same_as<Index>;
  { mask.near_coverage(queries, keys) } -> std::same_as<Coverage>;  // by positions, as coverage()
  { mask.near_visible(i, i) } -> std::same_as<bool>;                // query position, key position
  { mask.far_coverage(queries, keys) } -> std::same_as<Coverage>;   // keys: numbers in the far list
  { mask.far_visible(i, i) } -> std::same_as<bool>;                 // query position, number in the far list
};

/// 3c. Which tokens stay. A rule says of every token whether it is a landmark, and of every query where the recent
/// tokens begin; see rule.hpp. A rule is a value without state: all that changes is in History.
///
///     has_history         true: what a query sees depends on more than positions and ids, so no mask can say it
///     has_ranks           true: the rule is defined for in-cache rank positions
///     needs_ids()         true: the rule looks at token ids, so KvCache::begin() needs them
///     role(position, id)  what the token is to the rule
///     sees_landmarks(position, id)      false: as a query, the token sees no landmark that is not recent
///     recall(history)     what the next query sees
///     evicts_before_step()              true: the cache evicts at the next step, so it holds what the last query saw;
///                                       false: it evicts at commit, so it holds what the next query may see
///     rollback_floor(evicted, begin)    the fewest tokens that a cache can be cut back to, if the latest evicted
///                                       position is `evicted` and recent tokens begin at `begin`. 0 from a rule with a
///                                       history means unknown: the cache records the floor anyway
///     describe(field)     calls field(name, value) for every parameter; a value is a number or a TokenSet
///     most_kept()         optional: the most that the rule ever holds (MostKept)
template <class R>
concept Retention = requires(const R& rule, Index n, std::int32_t id, const History& history) {
  { R::name } -> std::convertible_to<const char*>;
  { R::has_history } -> std::convertible_to<bool>;
  { R::has_ranks } -> std::convertible_to<bool>;
  { rule.validate() } -> std::same_as<Status>;
  { rule.needs_ids() } -> std::same_as<bool>;
  { rule.evicts_before_step() } -> std::same_as<bool>;
  { rule.role(n, id) } -> std::same_as<Role>;
  { rule.sees_landmarks(n, id) } -> std::same_as<bool>;
  { rule.recall(history) } -> std::same_as<Recall>;
  { rule.rollback_floor(n, n) } -> std::same_as<Index>;
  rule.describe([](const char*, const auto&) {});
};

/// 4. The inner loops, per chunk of at most 256 keys. Every backend obeys the contract of math::F32 (docs/design.md):
/// one accumulator per 32 dims of a score and one per output element, and a fixed order of additions. A backend is free
/// to choose how many rows it computes together and how keys get into registers. simd/scalar.hpp is the readable
/// definition of every function.
template <class B>
concept SimdBackend = requires(const float* in, float* out, Index n, float x, KeyRows rows, Interval keys,
                               RowTarget* targets, Accumulate phase, Ahead ahead, const Matrix& m) {
  { B::name } -> std::convertible_to<const char*>;
  { B::few_rows } -> std::convertible_to<Index>;
  B::template pack_keys<F32>(rows, n, out);
  B::template pack_values<F32>(rows, n, n, out);
  B::template decode_rows<F32>(rows, n, out);
  B::template score_rows<F32>(in, n, n, rows, n, x, out);
  B::score_panel(in, n, n, in, n, n, x, out, ahead, PanelFactors<Factors::none>{});
  B::score_panel(in, n, n, in, n, n, x, out, ahead, PanelFactors<Factors::per_row>{});
  B::score_panel(in, n, n, in, n, n, x, out, ahead, PanelFactors<Factors::per_block>{});
  { B::softmax(out, n) } -> std::same_as<ChunkSum>;
  B::soft_cap(out, n, x);
  B::add_bias(out, n, x, in, x);
  B::template accumulate_rows<F32>(in, n, rows, keys, n, n, targets, phase);
  B::accumulate_panel(in, n, in, keys, n, n, targets, phase, ahead, PanelFactors<Factors::none>{});
  B::accumulate_panel(in, n, in, keys, n, n, targets, phase, ahead, PanelFactors<Factors::per_row>{});
  B::accumulate_panel(in, n, in, keys, n, n, targets, phase, ahead, PanelFactors<Factors::per_block>{});
  B::finish(targets, n, n);
  B::merge(x, in, x, in, n, out);
  B::linear(m, n, in, n, out, n);
};

/// 5. Runs independent tasks. `parallel_for(tasks, body)` calls body(task, worker) once for every task in [0, tasks),
/// with a worker in [0, workers()). Calls with the same worker never overlap. It returns when all tasks are done. heed
/// starts no thread of its own: only an executor that the caller makes has threads.
template <class E>
concept Executor = requires(E& executor, Index tasks, FunctionRef<void(Index, Index)> body) {
  { executor.workers() } -> std::same_as<Index>;
  executor.parallel_for(tasks, body);
};

}  // namespace heed::inline HEED_ABI
