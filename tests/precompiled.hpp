/// \file
/// What most tests include. The build reads it once, ahead of all tests that are compiled with the same flags. A test still
/// includes what it uses: HEED_PRECOMPILE=OFF compiles every file without this one.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <heed/compiled.hpp>
#include <heed/heed.hpp>
#include <nlohmann/json.hpp>
