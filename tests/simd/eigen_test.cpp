// Eigen's widest packets of this build.
#if __has_include(<Eigen/Core>)
#include <heed/simd/eigen.hpp>

#include "simd/function_laws.hpp"

namespace heed_test::eigen_test {
namespace {

static_assert(heed::SimdBackend<heed::EigenPackets>);
INSTANTIATE_TYPED_TEST_SUITE_P(Eigen, TileLaws, heed::EigenPackets);
INSTANTIATE_TYPED_TEST_SUITE_P(Eigen, FunctionLaws, heed::EigenPackets);

}  // namespace
}  // namespace heed_test::eigen_test
#endif
