/// \file
/// The options of a recurrent state. They are checked before anything is allocated.
#pragma once

#include <cstdint>

#include <heed/checked.hpp>
#include <heed/memory.hpp>

namespace heed::inline HEED_ABI {

/// Options of a RecurrentState. `layers` and `width` are at least 1, the others at least 0; create() says which number
/// is wrong.
struct RecurrentOptions {
  Index layers = 1;            ///< number of layers
  Index width = 0;             ///< numbers of a layer's state, kept in float32
  Index max_tokens = 0;        ///< most tokens of the sequence, those of a step included; 0: no limit
  Index undo_tokens = 0;       ///< number of earlier tokens whose states are kept, for truncate()
  std::uint64_t model_id = 0;  ///< the caller's hash of the weights; restore() refuses a snapshot with another one
  MemoryResource memory = default_memory();  ///< where memory comes from
};

namespace detail {

[[nodiscard]] inline Status validate_options(const RecurrentOptions& options) {
  Status status = check_range("layers", options.layers, 1, most_layers);
  if (status.ok()) status = check_range("width", options.width, 1, most_width);
  if (status.ok()) status = check_range("max_tokens", options.max_tokens, 0, most_tokens);
  if (status.ok()) status = check_range("undo_tokens", options.undo_tokens, 0, most_undo);
  if (status.ok()) status = check_memory(options.memory);
  return status;
}

}  // namespace detail

}  // namespace heed::inline HEED_ABI
