// GroupedMask: the least a user writes, and what may be given to attend(), small or large.
#include "compile/concepts/minimal.hpp"

struct PerHead {
  [[nodiscard]] bool visible(heed::Index query, heed::Index key, heed::Index kv_head) const {
    return key <= query && key >= kv_head;
  }
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval, heed::Index) const {
    return heed::Coverage::partial;
  }
};
struct Large : PerHead {
  heed::Index blocks[64] = {};
};
static_assert(heed::GroupedMask<PerHead> && !heed::AttentionMask<PerHead> && heed::KernelMask<PerHead>);
static_assert(!heed::GroupedMask<heed::Causal> && heed::KernelMask<heed::Causal>);

heed::Status with_small_mask() {
  return minimal::attend<minimal::Backend, minimal::Policy, minimal::Source, PerHead>();
}
heed::Status with_large_mask() { return minimal::attend<minimal::Backend, minimal::Policy, minimal::Source, Large>(); }
