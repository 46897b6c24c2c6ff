// SimdBackend: what ships, and the least a user writes.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert([] {
  bool all = true;
  heed::Backends::for_each([&]<class B>() { all = all && heed::SimdBackend<B>; });
  return all;
}());
#if HEED_HAS_XSIMD && defined(__SSE2__)
static_assert(heed::SimdBackend<heed::Xsimd<xsimd::sse2>>);
#endif

static_assert(heed::SimdBackend<minimal::Backend>);
heed::Status attend() { return minimal::attend<minimal::Backend>(); }
