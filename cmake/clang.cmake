# The newest clang++ of those the project is tested with; a preset cannot choose, a toolchain file can.
find_program(HEED_CLANGXX NAMES clang++-19 clang++-16 clang++ REQUIRED)
set(CMAKE_CXX_COMPILER "${HEED_CLANGXX}")
