/// \file
/// The operations on one sequence that an engine needs, for a cache with rows per token (KvCache) or a state of
/// constant size (RecurrentState).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include <heed/cache/bytes.hpp>
#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// begin() opens a step of new tokens, whose commit() adds them in all layers at once. `seen()` tokens are committed;
/// truncate() goes back to fewer, of which 0 and rollback_floor() .. seen() always work. fork() and snapshot() keep a
/// sequence as it is. `bytes()` is measured.
template <class C>
concept SequenceCache = requires(C& sequence, const C& same, Index tokens, NumTokens count,
                                 std::span<const std::int32_t> ids, std::span<std::byte> to) {
  { (*sequence.begin(count)).commit() } -> std::same_as<Status>;
  { (*sequence.begin(ids)).commit() } -> std::same_as<Status>;
  { same.layers() } -> std::same_as<Index>;
  { same.seen() } -> std::same_as<Index>;
  { same.rollback_floor() } -> std::same_as<Index>;
  { sequence.truncate(tokens) } -> std::same_as<Status>;
  { sequence.clear() } -> std::same_as<Status>;
  { same.fork() } -> std::same_as<Result<C>>;
  { same.bytes() } -> std::same_as<CacheBytes>;
  { same.snapshot_bytes() } -> std::same_as<std::size_t>;
  { same.snapshot(to) } -> std::same_as<Status>;
};

}  // namespace heed::inline HEED_ABI
