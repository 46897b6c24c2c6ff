// A translation unit that includes the whole library and tells which version, instruction set and vector width it got;
// compiled several times with different flags and names.
#include <heed/heed.hpp>

#ifdef UNIT_HAS_XSIMD
#include <heed/simd/xsimd.hpp>
#endif

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

const char* PASTE(UNIT, _version)() { return heed::version_string(); }
const char* PASTE(UNIT, _isa)() { return heed::isa_name(); }

int PASTE(UNIT, _lanes)() {
#ifdef UNIT_HAS_XSIMD
  return heed::Xsimd<>::W;
#else
  return 0;
#endif
}
