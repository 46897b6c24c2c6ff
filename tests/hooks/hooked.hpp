/// \file
/// What the laws of hooks are checked on: a kernel without hooks, and the same one with hooks that are chosen at run time.
#pragma once

#include <functional>
#include <ostream>
#include <vector>

#include <heed/hooks/check.hpp>

#include "laws/problem.hpp"

namespace heed_test {

/// Every hook there is. Those without a function do nothing.
struct AnyHooks {
  std::function<void(const heed::LogitChunk&)> before_cap = {}, after_cap = {};
  std::function<void(const heed::ChunkProbabilities&)> of_chunk = {};
  std::function<void(const heed::FinishedRow&)> of_row = {};

  void logits(const heed::LogitChunk& chunk) const {
    if (before_cap) before_cap(chunk);
  }
  void capped_logits(const heed::LogitChunk& chunk) const {
    if (after_cap) after_cap(chunk);
  }
  void chunk(const heed::ChunkProbabilities& chunk) const {
    if (of_chunk) of_chunk(chunk);
  }
  void finish(const heed::FinishedRow& row) const {
    if (of_row) of_row(row);
  }
};
static_assert(heed::LogitHook<AnyHooks> && heed::CappedLogitHook<AnyHooks> && heed::ChunkSink<AnyHooks>);

struct Hooked {
  Subject plain;
  heed::Kernel (*with)(AnyHooks& hooks);
  void (*soft_cap)(float* logits, Index count, float cap);  ///< the backend's; may write up to the next multiple of 16
};

inline std::ostream& operator<<(std::ostream& out, const Hooked& hooked) { return out << hooked.plain.name(); }

/// All subjects of this program.
inline std::vector<Hooked>& all_hooked() {
  static std::vector<Hooked> all;
  return all;
}

/// A law that holds for every kernel with hooks.
class HookLaws : public testing::TestWithParam<Hooked> {
 protected:
  [[nodiscard]] static const Subject& plain() { return GetParam().plain; }
  [[nodiscard]] static bool slow() { return plain().name().starts_with("scalar"); }
  [[nodiscard]] static std::vector<Mechanism> mechanisms() { return mechanisms_of(plain().shares()); }
  /// run() with hooks.
  [[nodiscard]] static Output hooked(AnyHooks& hooks, const Problem& p, const Source& keys, Index threads = 1) {
    const heed::Kernel kernel = GetParam().with(hooks);
    return run(Subject{kernel, plain().storage}, p, keys, threads);
  }
  /// The same by a plan.
  [[nodiscard]] static Output hooked_planned(AnyHooks& hooks, const Problem& p, const Source& keys, Index threads = 1) {
    const heed::Kernel kernel = GetParam().with(hooks);
    return run_planned(Subject{kernel, plain().storage}, p, keys, threads);
  }
  [[nodiscard]] static Output hooked(AnyHooks& hooks, const Problem& p, Index threads = 1) {
    return hooked(hooks, p, *filled(plain(), p)->keys(), threads);
  }
};

struct HookedName {
  std::string operator()(const testing::TestParamInfo<Hooked>& hooked) const { return hooked.param.plain.name(); }
};

// As HEED_FOR_ALL_KERNELS.
#define HEED_FOR_ALL_HOOKED(Suite) INSTANTIATE_TEST_SUITE_P(All, Suite, testing::ValuesIn(all_hooked()), HookedName{})

}  // namespace heed_test
