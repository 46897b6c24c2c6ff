/// \file
/// Network: a model of any mechanism, from bytes to logits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <heed/cache/token_index.hpp>
#include <heed/exec/thread_pool.hpp>

#include "model/drafter.hpp"
#include "model/memory.hpp"
#include "model/tensors.hpp"

namespace heed_examples {

struct ModelBackend;  // model/backend.hpp

/// How to run a model, whatever its mechanism.
struct ModelOptions {
  const ModelBackend* backend = nullptr;   ///< not owned; must outlive the model
  heed::ThreadPool* executor = nullptr;    ///< not owned; must outlive the model
  std::string codec = "bf16";              ///< of the cache: a name of heed::Codecs
  heed::Index capacity = 1024;             ///< tokens to make room for at once
  std::optional<heed::AnyRule> rule = {};  ///< which tokens stay; nothing: as the model was trained
  heed::Positions positions = heed::Positions::absolute;
  heed::MemoryResource memory = heed::default_memory();
};

/// Every member may throw heed::Error; the network has then seen nothing new.
class Network {
 public:
  virtual ~Network() = default;

  /// Logits [bytes][256] for the byte after each of these, which follow the text seen so far. They become part of it by
  /// accept(); a call that is not accepted is forgotten.
  virtual void verify(std::span<const std::uint8_t> bytes, Matrix& logits) = 0;
  /// Of the bytes of the last verify(), the first `count` have been seen.
  virtual void accept(heed::Index count) = 0;
  /// Forgets the text and keeps the memory.
  virtual void clear() = 0;
  [[nodiscard]] virtual const SequenceMemory& memory() const = 0;
  /// Its own multi-token prediction module; null without one.
  [[nodiscard]] virtual Drafter* drafter() { return nullptr; }

  /// Appends bytes to the text seen so far.
  void forward(std::span<const std::uint8_t> bytes, Matrix& logits) {
    verify(bytes, logits);
    accept(heed::Index(bytes.size()));
  }
};

/// Drafts that a network can take back.
inline constexpr heed::Index max_drafts = 15;

/// Makes the network of a model: takes its tensors from the reader, may throw ModelError or heed::Error.
using MakeNetwork = std::unique_ptr<Network> (*)(const ModelConfig&, TensorReader&, const ModelOptions&);

}  // namespace heed_examples
