/// \file
/// Which sanitizer a test is compiled with: GCC defines a macro, Clang has a feature.
#pragma once

#if defined(__has_feature)
#define HEED_TEST_FEATURE(name) __has_feature(name)
#else
#define HEED_TEST_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || HEED_TEST_FEATURE(address_sanitizer)
#define HEED_TEST_ASAN 1
#else
#define HEED_TEST_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || HEED_TEST_FEATURE(thread_sanitizer)
#define HEED_TEST_TSAN 1
#else
#define HEED_TEST_TSAN 0
#endif

namespace heed_test {
/// Of so many repetitions by one thread, a build with ThreadSanitizer runs one: it has nothing to find in the others.
constexpr int one_of(int repetitions) { return HEED_TEST_TSAN ? repetitions : 1; }
}  // namespace heed_test
