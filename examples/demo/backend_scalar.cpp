#include <heed/compiled/scalar.hpp>

#include "demo/backends.hpp"

namespace heed_examples {
DemoBackend scalar_backend() { return demo_backend<heed::Scalar>("scalar"); }
}  // namespace heed_examples
