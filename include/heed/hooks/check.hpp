/// \file
/// Checks of a hooks object, so that a member with a wrong name or signature is not silently left out.
#pragma once

#include <type_traits>

#include <heed/hooks/logits.hpp>
#include <heed/hooks/probabilities.hpp>

namespace heed::inline HEED_ABI {

/// A kernel without hooks.
struct NoHooks {};

/// What attend() takes as hooks: an object with any of the members of LogitHook, CappedLogitHook and ChunkSink. The kernel
/// is compiled for its type. What has no member costs nothing. The members must not throw.
///
/// Workers call it, so calls overlap if the executor has more than one; HookRow::worker tells who calls. A row's chunks come
/// in order, far ones first. Where few rows meet many keys, attend() cuts the keys into parts: then the chunks of each part
/// come in order, and those of two parts may overlap.
template <class H>
concept AttendHooks = LogitHook<H> || CappedLogitHook<H> || ChunkSink<H>;

namespace detail {

// A class that inherits a name twice cannot name it. So this finds members of any kind, also overloaded ones.
struct NameOfLogits {
  int logits;
};
struct NameOfCappedLogits {
  int capped_logits;
};
struct NameOfChunk {
  int chunk;
};
struct NameOfFinish {
  int finish;
};
template <class H, class Name>
struct WithName : H, Name {};

template <class H>
concept Inherited = std::is_class_v<H> && !std::is_final_v<H>;
template <class H>
concept NamesLogits = Inherited<H> && !requires { &WithName<H, NameOfLogits>::logits; };
template <class H>
concept NamesCappedLogits = Inherited<H> && !requires { &WithName<H, NameOfCappedLogits>::capped_logits; };
template <class H>
concept NamesSink = Inherited<H> && (!requires { &WithName<H, NameOfChunk>::chunk; } ||
                                     !requires { &WithName<H, NameOfFinish>::finish; });

/// Does not compile if `H` is no hooks object, or has a member of a hook's name that the kernel cannot call.
template <class H>
constexpr void check_hooks() noexcept {
  using Plain = std::remove_cv_t<H>;
  static_assert(!NamesLogits<Plain> || LogitHook<H>,
                "hooks: the member logits must be callable with a heed::LogitChunk");
  static_assert(!NamesCappedLogits<Plain> || CappedLogitHook<H>,
                "hooks: the member capped_logits must be callable with a heed::LogitChunk");
  static_assert(!NamesSink<Plain> || ChunkSink<H>,
                "hooks: a sink must have chunk(heed::ChunkProbabilities) and finish(heed::FinishedRow)");
  static_assert(AttendHooks<H>,
                "hooks: the object has none of logits(heed::LogitChunk), capped_logits(heed::LogitChunk), and "
                "chunk(heed::ChunkProbabilities) with finish(heed::FinishedRow)");
}

}  // namespace detail

}  // namespace heed::inline HEED_ABI
