// The fuzz targets without libFuzzer: runs every file of a corpus, then mutations of them until the time is up.
//   fuzz_<target> [-max_total_time=SECONDS] [-seed=N] [-write=FILE] [file or folder ...]
// An input that ends the program is left in FILE (default crash-input), to be run again as an argument.
#include <fcntl.h>
#include <unistd.h>
#include <csignal>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/bytes.hpp"

namespace {

using Input = std::vector<std::uint8_t>;

Input running;
std::string crash_file = "crash-input";

void write_crash(int signal) {
  const int file = open(crash_file.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
  if (file >= 0) {
    [[maybe_unused]] const auto written = write(file, running.data(), running.size());
    close(file);
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(Input input) {
  running = std::move(input);
  // A copy of the exact size, so that a sanitizer sees every byte read beyond it.
  const Input exact(running);
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

Input mutated(const std::vector<Input>& corpus, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : std::size_t(random() % n); };
  Input input = corpus[below(corpus.size())];
  for (std::size_t changes = 1 + below(6); changes > 0; --changes) {
    const std::size_t at = below(input.size() + 1);
    switch (below(6)) {
      case 0: {  // a byte
        if (at < input.size()) input[at] = std::uint8_t(random());
        break;
      }
      case 1: {  // a bit
        if (at < input.size()) input[at] ^= std::uint8_t(1 << below(8));
        break;
      }
      case 2: {  // new bytes
        for (std::size_t n = 1 + below(16); n > 0; --n) {
          input.insert(input.begin() + std::ptrdiff_t(at), std::uint8_t(random()));
        }
        break;
      }
      case 3: {  // bytes go
        const std::size_t count = std::min(input.size() - at, 1 + below(16));
        input.erase(input.begin() + std::ptrdiff_t(at), input.begin() + std::ptrdiff_t(at + count));
        break;
      }
      case 4: {  // the end of another input
        const Input& other = corpus[below(corpus.size())];
        const std::size_t from = below(other.size() + 1);
        input.resize(at);
        input.insert(input.end(), other.begin() + std::ptrdiff_t(from), other.end());
        break;
      }
      default: {  // a run again
        const std::size_t count = std::min(input.size() - at, 1 + below(32));
        const Input copy(input.begin() + std::ptrdiff_t(at), input.begin() + std::ptrdiff_t(at + count));
        input.insert(input.begin() + std::ptrdiff_t(at), copy.begin(), copy.end());
      }
    }
  }
  if (input.size() > 4096) input.resize(4096);
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  double seconds = 0;
  std::uint64_t seed = 1;
  std::vector<Input> corpus;
  const auto read = [&corpus](const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) std::fprintf(stderr, "%s: cannot be read\n", path.c_str()), std::exit(2);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto value = [&](std::string_view name) { return std::string(word.substr(name.size())); };
    if (word.starts_with("-max_total_time=")) {
      seconds = std::stod(value("-max_total_time="));
    } else if (word.starts_with("-seed=")) {
      seed = std::stoull(value("-seed="));
    } else if (word.starts_with("-write=")) {
      crash_file = value("-write=");
    } else if (std::filesystem::is_directory(word)) {
      for (const auto& entry : std::filesystem::directory_iterator(word)) read(entry.path());
    } else {
      read(word);
    }
  }
  if (corpus.empty()) std::fprintf(stderr, "no input\n"), std::exit(2);
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) std::signal(signal, write_crash);

  for (const Input& input : corpus) run(input);
  std::mt19937_64 random(seed);
  std::size_t runs = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    run(mutated(corpus, random));
    ++runs;
  }
  std::printf("%zu inputs of the corpus and %zu mutations of them passed\n", corpus.size(), runs);
}
