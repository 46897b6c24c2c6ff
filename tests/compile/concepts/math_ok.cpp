// Math: what ships, and the least a user writes.
#include <heed/heed.hpp>
#include <heed/hooks.hpp>

#include "compile/concepts/minimal.hpp"

static_assert([] {
  bool all = true;
  heed::Maths::for_each(
      [&]<class M>() { heed::Backends::for_each([&]<class B>() { all = all && heed::Math<M, B>; }); });
  return all;
}());
static_assert(heed::Math<heed::math::F32, heed::DefaultBackend, heed::Bf16, heed::F16>);
static_assert(heed::Math<heed::math::F32, minimal::Backend, minimal::Codec>);

static_assert(heed::Math<minimal::Math, minimal::Backend>);
heed::Status attend() {
  using namespace minimal;
  return minimal::attend<minimal::Backend, Policy, Source, Mask, Executor, minimal::Math>();
}
const heed::Kernel& kernel() { return heed::kernel<heed::Scalar, heed::F32, heed::F32, minimal::Math>(); }

/// A kernel with hooks may have any math.
struct Hooks {
  void logits(const heed::LogitChunk&) {}
};
heed::Kernel kernel(Hooks& hooks) { return heed::kernel<heed::Scalar, heed::F32, heed::F32, minimal::Math>(hooks); }
