#include <heed/compiled/eigen.hpp>

#include "demo/backends.hpp"

namespace heed_examples {
DemoBackend eigen_backend() { return demo_backend<heed::EigenPackets>("eigen"); }
}  // namespace heed_examples
