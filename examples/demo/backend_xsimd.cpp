#include "demo/backends.hpp"

#if __has_include(<xsimd/xsimd.hpp>)
#include <heed/compiled/xsimd.hpp>

namespace heed_examples {
DemoBackend xsimd_backend() { return demo_backend<heed::Xsimd<>>("xsimd"); }
}  // namespace heed_examples
#endif
