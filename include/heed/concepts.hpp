/// \file
/// The five concepts heed is made of. Read this file first.
///
/// KV bytes per token = what a token leaves (policy) x how an element is stored (codec) x which tokens stay (retention).
/// One kernel, attend(), reads a policy's description, asks a cache for rows and a mask for visibility, runs its inner
/// loops on a SIMD backend, and spreads its tasks over an executor. None of the five knows another.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include <heed/codec/f32.hpp>
#include <heed/retention/rule.hpp>
#include <heed/simd/tile.hpp>
#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Says that an edge of a policy does nothing. Policies write it out: there are no silent defaults.
struct Identity {};

/// A linear map per query head at an edge of a policy: out[r] = map_head(in[r]) for `rows` rows.
/// Rows of `in` are `in_stride` floats apart, rows of `out` `out_stride`. `linear` is the backend's product.
template <class M>
concept HeadMap = requires(const M& map, Index head, Index rows, const float* in, Index stride, float* out,
                           Linear linear) {
  { map.in_width() } -> std::same_as<Index>;
  { map.out_width() } -> std::same_as<Index>;
  map.apply(head, rows, in, stride, out, stride, linear);
};

/// What stands at an edge of a policy: nothing, or a map.
template <class M>
concept EdgeMap = std::same_as<std::remove_cvref_t<M>, Identity> || HeadMap<std::remove_cvref_t<M>>;

/// 1. A description of a mechanism: what is cached, and how the kernel reads it. It has no loop over tokens.
///
/// `layout()` gives streams, views, head counts and scale. `key_stream` and `value_stream` name the streams the views
/// lie in. `query_map()` and `output_map()` are linear maps at the edges (HeadMap, or Identity). `preparation()` makes
/// keys or values from stored rows once per tile (TilePreparation, or Identity).
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

/// Makes the keys (and, if it says so, the values) that the kernel reads from a tile of stored rows.
/// `rows` are decoded: `count` rows of the whole stream row, contiguous. `positions[i]` is row i's position. `linear` is
/// the backend's product. It may also say `idle()`: nothing to make now, rows are read as they are; and `rotates_keys()`:
/// keys are stored un-rotated, so a cache may place them by rank.
template <class T>
concept TilePreparation = requires(const T& t, Index kv_head, Index count, const float* rows, const Index* positions,
                                   float* out, Linear linear) {
  { t.makes_values() } -> std::same_as<bool>;
  t.keys(kv_head, count, rows, positions, out, linear);    // [count][key_width]
  t.values(kv_head, count, rows, positions, out, linear);  // [count][value_width]; called only if makes_values()
};

namespace detail {

/// Whether a policy turns stored keys by their position when it reads them.
template <AttentionPolicy P>
[[nodiscard]] bool rotates_keys(const P& policy) {
  if constexpr (requires { policy.preparation().rotates_keys(); }) return policy.preparation().rotates_keys();
  return false;
}

}  // namespace detail

/// How a stored row becomes numbers.
template <class C>
concept Codec = requires(const float* numbers, const std::byte* stored, std::byte* store, float* out, Index n) {
  { C::name } -> std::convertible_to<const char*>;
  { C::row_bytes(n) } -> std::same_as<Index>;
  { C::offset_bytes(n) } -> std::same_as<Index>;
  C::encode(numbers, n, store);
  C::decode(stored, n, out);
};

/// 2. What the kernel asks of a cache: how many keys there are, where each lies, and which position it has.
///
/// `tile(stream, head, first, max)` is the longest run of rows from `first` that share a stride, at most `max`, at
/// least one. Contiguous answers with everything, paged stops at a page end, an evicting cache at a hole.
/// `position(i)` is the logical token index of key i: strictly increasing, and equal to i unless something was evicted.
template <class C>
concept KeyValueSource = requires(const C& cache, int stream, Index n) {
  requires Codec<typename C::KeyCodec>;
  requires Codec<typename C::ValueCodec>;
  { cache.size() } -> std::same_as<Index>;
  { cache.tile(stream, n, n, n) } -> std::same_as<Tile>;
  { cache.position(n) } -> std::same_as<Index>;
};

/// A source that knows whether it can be read now, by a policy that rotates keys at read or by one that does not.
template <class S>
concept GuardedSource = KeyValueSource<S> && requires(const S& source, bool policy_rotates) {
  { source.readable(policy_rotates) } -> std::same_as<Status>;
};

/// A source that the kernel reads by *slots*, some of which are holes: their keys were removed, and no query sees them,
/// whatever its mask says. The other slots hold the keys, in order. So removing a key leaves the lanes of all others as
/// they are. A split mask's near and far keys are slots; `next_hole(slot)` is the first run of holes at or after a slot, or
/// begins at slots() or later if there is none. The rows of a hole can be read, and may say anything.
template <class S>
concept SlottedSource = KeyValueSource<S> && requires(const S& source, int stream, Index n) {
  { source.slots() } -> std::same_as<Index>;
  { source.slot_tile(stream, n, n, n) } -> std::same_as<Tile>;  // as tile()
  { source.slot_position(n) } -> std::same_as<Index>;           // as position()
  { source.next_hole(n) } -> std::same_as<Interval>;
};

namespace detail {

/// Keys of a source as the kernel counts them: slots, if it has some.
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
[[nodiscard]] Tile slot_tile(const S& source, int stream, Index head, Index first, Index max) {
  if constexpr (SlottedSource<S>) {
    return source.slot_tile(stream, head, first, max);
  } else {
    return source.tile(stream, head, first, max);
  }
}
/// The position after the last slot.
template <KeyValueSource S>
[[nodiscard]] Index end_of(const S& source) {
  const Index slots = slots_of(source);
  return slots == 0 ? 0 : slot_position(source, slots - 1) + 1;
}

}  // namespace detail

/// A source whose keys depend on when they are read, so that queries of one call see different lists. Stage n serves the
/// queries [begin, end) of the call and has a list of its own, the last keys of which are those queries' own; within it
/// queries are causal and end-aligned, and chunks go by the number in the list. No stages: an ordinary source.
/// A stage's list may have a mask of its own, `stage_mask(n)` (a MaskRef): then chunks go by that. It may have holes, too,
/// as a SlottedSource has: `stage_hole(n, key)` is the first run of them at or after a key.
template <class S>
concept StagedSource = KeyValueSource<S> && requires(const S& source, int stream, Index n) {
  { source.stages() } -> std::same_as<Index>;
  { source.stage_queries(n) } -> std::same_as<Interval>;  // in order, from 0, without gaps
  { source.stage_size(n) } -> std::same_as<Index>;
  { source.stage_tile(n, stream, n, n, n) } -> std::same_as<Tile>;  // stage, then as tile()
  { source.stage_position(n, n) } -> std::same_as<Index>;           // stage, then as position()
};

/// What a mask may want to know of a sequence before it is read.
struct MaskedCall {
  Index queries = 0;
  bool query_positions = false;  ///< whether the caller gives them
  Index slots = 0;               ///< of the source: its keys, and those that are gone from between them
  Index end = 0;                 ///< position of the last key, plus 1
  const void* tokens = nullptr;  ///< the list of tokens that a cache's layers share; null: the source is no such cache
  const char* rule = nullptr;    ///< name of the rule by which that cache forgets; null: it keeps everything
};

/// 3a. Which keys a query sees, by logical token index. `coverage` may answer `partial` when it does not know;
/// `none` and `full` are promises. Asked per tile; `visible` is asked only inside partial tiles.
///
/// A mask over guesses, of which several are for one place of a text, may also have `text_position(position)`: where what
/// lies at `position` stands in its text. ALiBi and keys rotated at read go by that. And `fits(MaskedCall)`: a Status
/// other than ok, and attend() refuses to read these keys with it.
template <class M>
concept AttentionMask = requires(const M& mask, Interval queries, Interval keys, Index token) {
  { mask.coverage(queries, keys) } -> std::same_as<Coverage>;
  { mask.visible(token, token) } -> std::same_as<bool>;
};

/// 3b. A mask that is read in two lists: every query sees the *near* keys at positions [begin(query), query], and of the
/// *far* keys (anchors, separators, first tokens), which lie scattered before them, the first few, or none.
///
/// Far keys are read through a list, as dense tiles, whose chunks are numbers in the list / 256; the chunks of near keys
/// are lanes / 256. Neither depends on what else is cached, so evicting keys that nobody sees changes no bit.
/// `far_key(i)` is the index in the source of number i, ascending. A far key in a query's near run is near: it is read
/// there only. coverage() and visible() are the whole truth of both lists.
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

/// 3c. Which tokens stay. A rule says of every token whether it is a landmark, and of every query where the recent tokens
/// begin; see retention/rule.hpp. It is a value without state: all that may change is in History.
///
/// `has_history`: what a query sees depends on more than positions and ids, so there is no mask (SepLLM's stream).
/// `has_ranks`: in-cache rank positions mean something for it. `evicts_before_step()`: the cache holds what the last query
/// saw until the next step; otherwise what the next one may see. `rollback_floor(evicted, begin)`: the fewest tokens a
/// cache can be cut back to, when the latest evicted position is `evicted` and recent tokens begin at `begin`.
/// `describe(field)` calls field(name, value) for every parameter: numbers, or a TokenSet. A rule may also have
/// `most_kept()`, the MostKept it ever holds.
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

/// 4. The inner loops, per tile of at most 256 keys. Every backend obeys the arithmetic contract of docs/design.md:
/// one accumulator per 32 dims of a score and one per output element, a fixed order of additions. How many rows are
/// computed together, and how keys get into lanes, is free. simd/scalar.hpp is the readable definition of every function.
template <class B>
concept SimdBackend = requires(const float* in, float* out, Index n, float x, KeyRows rows, Interval keys,
                               RowTarget* targets, Accumulate phase, Ahead ahead, const Matrix& m) {
  { B::name } -> std::convertible_to<const char*>;
  { B::few_rows } -> std::convertible_to<Index>;
  B::template pack_keys<F32>(rows, n, out);
  B::template pack_values<F32>(rows, n, n, out);
  B::template decode_rows<F32>(rows, n, out);
  B::template score_rows<F32>(in, n, n, rows, n, x, out);
  B::score_panel(in, n, n, in, n, n, x, out, ahead);
  { B::softmax(out, n) } -> std::same_as<ChunkSum>;
  B::soft_cap(out, n, x);
  B::add_bias(out, n, x, in, x);
  B::template accumulate_rows<F32>(in, n, rows, keys, n, n, targets, phase);
  B::accumulate_panel(in, n, in, keys, n, n, targets, phase, ahead);
  B::finish(targets, n, n);
  B::merge(x, in, x, in, n, out);
  B::linear(m, n, in, n, out, n);
};

/// 5. Runs independent tasks. `body(task, worker)` with worker < workers(); two calls with one worker never overlap.
/// parallel_for returns when all tasks are done. The library starts no thread of its own.
template <class E>
concept Executor = requires(E& executor, Index tasks, FunctionRef<void(Index, Index)> body) {
  { executor.workers() } -> std::same_as<Index>;
  executor.parallel_for(tasks, body);
};

}  // namespace heed::inline HEED_ABI
