// AttentionMask and Retention: what ships, and the least a user writes.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert(heed::Retention<heed::Causal>);
static_assert(heed::Retention<heed::SlidingWindow> && heed::Retention<heed::SinkWindow>);
static_assert(heed::Retention<heed::Anchors> && heed::Retention<heed::Separators> && heed::Retention<heed::FixedGrid>);
static_assert(heed::Retention<heed::SeparatorStream>);
static_assert(heed::AttentionMask<heed::LandmarkMask> && !heed::Retention<heed::LandmarkMask>);
// Later keys are visible, so there is nothing a cache could forget or keep for it.
static_assert(heed::AttentionMask<heed::Unmasked> && !heed::Retention<heed::Unmasked>);

static_assert(heed::AttentionMask<minimal::Mask> && !heed::Retention<minimal::Mask>);
static_assert(heed::Retention<minimal::Rule> && !heed::AttentionMask<minimal::Rule>);

// Masks answer at compile time too.
static_assert(heed::Causal{}.coverage({5, 6}, {0, 6}) == heed::Coverage::full);
static_assert(heed::SlidingWindow{2}.coverage({5, 6}, {0, 4}) == heed::Coverage::none);

// A source without a rule has no mask to fall back on; a cache's view has.
template <class S>
concept HasItsOwnMask = requires(heed::Workspace workspace, heed::SerialExecutor executor, const S& keys) {
  heed::attend<heed::Scalar>(heed::Gqa{}, std::span<const float>(), keys, std::span<float>(), workspace, executor);
};
static_assert(HasItsOwnMask<heed::KvCache<heed::Gqa, heed::F32>::Keys>);
static_assert(!HasItsOwnMask<heed::StridedSource<heed::F32>>);

heed::Status with_mask() {
  return minimal::attend<minimal::Backend, minimal::Policy, minimal::Source, minimal::Mask>();
}
heed::Index kept_under(const minimal::Rule& rule) {
  auto cache = heed::KvCache<minimal::Policy, minimal::Codec>::create({}, {}, rule);
  return cache.ok() ? cache->kept() : -1;
}
