// heed_digest: one digest per (mechanism, codec, rule, options), of the bits that attend() gives.
//   heed_digest              prints the list
//   heed_digest --check FILE compares every backend's list with FILE; exits with 1 if a bit changed
// The list holds wherever the compiler fuses multiply and add: for every backend, vector width and instruction set. Only
// the soft-cap has bits of each backend's own.
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <heed/simd/backends.hpp>

#include "digest/problems.hpp"

namespace {

struct Backend {
  const char* name = "";
  std::vector<heed_digest::Line> (*run)() = nullptr;
};

std::vector<Backend> backends() {
  std::vector<Backend> all;
  heed::Backends::for_each([&]<class B>() { all.push_back({B::name, heed_digest::all_problems<B>}); });
  return all;
}

/// problem -> digest, from lines "digest  problem".
std::map<std::string, std::string> read(const char* path) {
  std::ifstream file(path);
  if (!file) std::fprintf(stderr, "heed_digest: cannot open %s\n", path), std::exit(2);
  std::map<std::string, std::string> list;
  for (std::string line; std::getline(file, line);) {
    if (line.size() > 18 && line[0] != '#') list[line.substr(18)] = line.substr(0, 16);
  }
  return list;
}

}  // namespace

int main(int argc, char** argv) {
  const bool check = argc == 3 && std::string(argv[1]) == "--check";
  if (argc != 1 && !check) return std::fprintf(stderr, "usage: heed_digest [--check FILE]\n"), 2;
  if (!check) {
    std::set<std::string> printed;
    for (const auto& backend : backends()) {
      for (const auto& line : backend.run()) {
        const std::string text = line.digest + "  " + line.problem;
        if (printed.insert(text).second) std::printf("%s\n", text.c_str());
      }
    }
    return 0;
  }
  const auto wanted = read(argv[2]);
  std::size_t checked = 0, changed = 0;
  std::set<std::string> seen;
  for (const auto& backend : backends()) {
    const auto lines = backend.run();
    for (const auto& line : lines) {
      const auto found = wanted.find(line.problem);
      const std::string want = found == wanted.end() ? "not in the list" : found->second;
      ++checked;
      seen.insert(line.problem);
      if (line.digest == want) continue;
      ++changed;
      std::printf("%s: %s: %s, must be %s\n", backend.name, line.problem.c_str(), line.digest.c_str(), want.c_str());
    }
  }
  std::size_t missing = 0;
  for (const auto& [problem, digest] : wanted) missing += seen.contains(problem) ? 0 : 1;
  std::printf("%zu digests of %zu backends, %zu changed; %zu of the list not asked for\n", checked,
              backends().size(), changed, missing);
  return changed == 0 && checked > 0 ? 0 : 1;
}
