/// \file
/// Says on stderr how far a long run is: a line that changes on a terminal, one line at the end elsewhere.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

#include <unistd.h>
#include <heed/types.hpp>

namespace heed_examples {

class Progress {
 public:
  Progress(std::string what, heed::Index total)
      : what_(std::move(what)), total_(total), terminal_(isatty(STDERR_FILENO) != 0) {}

  void update(heed::Index done) {
    if (!terminal_) return;
    const auto now = Clock::now();
    if (now - shown_ < std::chrono::milliseconds(100)) return;
    shown_ = now;
    std::fprintf(stderr, "\r%s: %lld of %lld bytes, %.1f s \033[K", what_.c_str(), static_cast<long long>(done),
                 static_cast<long long>(total_), seconds());
    std::fflush(stderr);
  }

  void finish() const {
    std::fprintf(stderr, "%s%s: %lld bytes in %.1f s%s\n", terminal_ ? "\r" : "", what_.c_str(),
                 static_cast<long long>(total_), seconds(), terminal_ ? "\033[K" : "");
  }

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  std::string what_;
  heed::Index total_ = 0;
  bool terminal_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point shown_ = start_;
};

}  // namespace heed_examples
