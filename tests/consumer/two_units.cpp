// Compiled without heed and without special flags, so that it runs on every CPU.
#include <cstdio>

const char* one_version();
const char* one_isa();
int one_lanes();
const char* two_version();
const char* two_isa();
int two_lanes();

int main() {
  std::printf("%s %s %d\n", one_version(), one_isa(), one_lanes());
  std::printf("%s %s %d\n", two_version(), two_isa(), two_lanes());
}
