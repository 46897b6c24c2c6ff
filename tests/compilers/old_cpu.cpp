// Runs one of two units that were compiled for different CPUs.
#include <cstring>

int new_unit();
int old_unit();

int main(int, char** argv) { return std::strcmp(argv[1], "old") == 0 ? old_unit() : new_unit(); }
