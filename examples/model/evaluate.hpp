/// \file
/// What a model is worth: bits per byte of a text, microseconds per step, and a greedy continuation.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <vector>

#include "model/language_model.hpp"

namespace heed_examples {

struct EvaluateOptions {
  heed::Index window = 1024;  ///< bytes; each starts with an empty cache, and its first byte is not scored
  heed::Index chunk = 1;      ///< bytes for one forward(): 1 decodes, `window` prefills
  std::function<void(heed::Index done)> progress = {};  ///< called after every chunk
};

struct Evaluation {
  heed::Index scored = 0;
  double bits_per_byte = 0;
  heed::CacheBytes cache;             ///< when it had seen the most tokens: at the end of a window
  heed::RetentionCounters retention;  ///< then
  std::vector<float> step_us;
  std::vector<float> attention_us;
};

/// -log2 of the probability that softmax(logits) gives to `byte`.
[[nodiscard]] inline double surprise_bits(const Matrix& logits, heed::Index row, std::uint8_t byte) {
  const auto scores = logits.row(row).array();
  const float most = scores.maxCoeff();
  const double nats = std::log(double((scores - most).exp().sum())) - double(scores(byte) - most);
  return nats / std::numbers::ln2;
}

/// Mean surprise over every byte but the first of each window. The last window may be shorter.
[[nodiscard]] inline Evaluation evaluate(LanguageModel& model, std::span<const std::uint8_t> text,
                                         const EvaluateOptions& options = {}) {
  using Clock = std::chrono::steady_clock;
  using Microseconds = std::chrono::duration<float, std::micro>;
  Evaluation result;
  result.step_us.reserve(text.size());
  result.attention_us.reserve(text.size());
  double bits = 0;
  const auto window = std::size_t(options.window), chunk = std::size_t(options.chunk);
  for (std::size_t begin = 0; begin < text.size(); begin += window) {
    const auto bytes = text.subspan(begin, std::min(window, text.size() - begin));
    model.clear();
    for (std::size_t first = 0; first + 1 < bytes.size(); first += chunk) {
      const std::size_t count = std::min(chunk, bytes.size() - 1 - first);
      const auto attended = model.memory().attention_time();
      const auto start = Clock::now();
      const Matrix& logits = model.forward(bytes.subspan(first, count));
      result.step_us.push_back(Microseconds(Clock::now() - start).count());
      result.attention_us.push_back(Microseconds(model.memory().attention_time() - attended).count());
      for (std::size_t i = 0; i < count; ++i) bits += surprise_bits(logits, heed::Index(i), bytes[first + i + 1]);
      result.scored += heed::Index(count);
      if (options.progress) options.progress(heed::Index(begin + first + count));
    }
    if (const heed::CacheBytes now = model.memory().bytes(); now.seen > result.cache.seen) {
      result.cache = now;
      result.retention = model.memory().retention();
    }
  }
  result.bits_per_byte = result.scored == 0 ? 0 : bits / double(result.scored);
  return result;
}

/// The `count` bytes that follow the prompt if each is the most probable one. The prompt has at least one byte.
[[nodiscard]] inline std::vector<std::uint8_t> greedy(LanguageModel& model, std::span<const std::uint8_t> prompt,
                                                      heed::Index count) {
  std::vector<std::uint8_t> out;
  model.clear();
  const Matrix* logits = &model.forward(prompt);
  while (heed::Index(out.size()) < count) {
    heed::Index best = 0;
    logits->row(logits->rows() - 1).maxCoeff(&best);
    out.push_back(std::uint8_t(best));
    if (heed::Index(out.size()) < count) logits = &model.forward(std::span(out).last(1));
  }
  return out;
}

}  // namespace heed_examples
