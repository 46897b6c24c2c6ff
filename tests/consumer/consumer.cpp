// What a first user writes: one include, one call.
#include <cstdio>

#include <heed/heed.hpp>

#ifdef CONSUMER_HAS_xsimd
#include <xsimd/xsimd.hpp>
#endif
#ifdef CONSUMER_HAS_eigen
#include <Eigen/Core>
#endif

#define TEXT_OF(x) #x
#define EXPANDED_TEXT_OF(x) TEXT_OF(x)

int main() { std::printf("%s %s %s\n", heed::version_string(), heed::isa_name(), EXPANDED_TEXT_OF(HEED_ABI)); }
