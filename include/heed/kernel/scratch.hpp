/// \file
/// The memory that a worker needs for one task at a time.
#pragma once

#include <cstddef>

#include <heed/factors.hpp>
#include <heed/kernel/answers.hpp>
#include <heed/kernel/bits.hpp>
#include <heed/kernel/chunk.hpp>
#include <heed/kernel/merge_stack.hpp>
#include <heed/math/sizes.hpp>
#include <heed/workspace.hpp>

namespace heed::inline HEED_ABI::detail {

/// Most rows prefetched ahead. Bounds the tail of the pointer list.
inline constexpr Index max_ahead = 256;
/// The most keys that score_rows() takes at once.
inline constexpr Index most_key_group = 32;

/// Most chunks of a pass: the keys of all are scored before the first of their values is read.
inline constexpr Index max_pass = 16;
/// Most rows of logits of a pass of several chunks. They take 128 KiB, so they stay in L2.
inline constexpr Index max_pass_rows = 128;

/// What is known of a chunk of a pass after its keys were scored.
struct PassChunk {
  Chunk chunk;
  bool any = false;    ///< some row sees a key. The rest is unknown if none does
  Visibility visible;  ///< but for the bits of rows, which lie in Scratch::visible
};

/// Sizes that decide how much scratch a worker needs: the same for every task of a call.
struct TaskShape {
  Index group = 1;  ///< query heads per KV head
  Index key_width = 0;
  Index value_width = 0;
  Index state_width = 0;   ///< value_width, padded to state_align
  Index stream_width = 0;  ///< widest stream row that a preparation decodes; 0 without a preparation
  bool makes_values = false;
  Index max_rows = 0;  ///< rows of the largest task
  Index pass = 1;      ///< most chunks of a pass
  Index pass_rows = 0;  ///< rows of logits of a pass: pass * max_rows, or more
  int slots = 0;       ///< pending states per row
  MathSizes math;
};

/// One worker's scratch. carve() gives the sizes.
struct Scratch {
  std::byte* q = nullptr;            // Querys of the math
  float* scores = nullptr;           // [pass][max_rows][256], of pass_rows rows
  std::byte* weights = nullptr;      // Weights of the math, unless they take the place of scores
  std::byte* key_panel = nullptr;    // Panels of the math
  std::byte* value_panel = nullptr;  // the same
  float* decoded = nullptr;
  float* prepared_keys = nullptr;
  float* prepared_values = nullptr;
  float* states = nullptr;
  float* distance = nullptr;
  MergeStack* stacks = nullptr;
  RowTarget* targets = nullptr;
  ChunkSum* sums = nullptr;
  KeyBits* visible = nullptr;   // [pass][max_rows]
  PassChunk* chunks = nullptr;  // of the pass
  const std::byte** pointers = nullptr;
  const std::byte** factor_pointers = nullptr;
  float* key_factors = nullptr;    // [factors of a key][64], of the rows in key_panel
  float* value_factors = nullptr;  // [factors of 64 dims][256], of the rows in value_panel
  Index* positions = nullptr;
  Index* far_list = nullptr;

  static Scratch carve(Carver& carver, const TaskShape& shape) noexcept {
    const bool prepares = shape.stream_width > 0;
    Scratch s;
    s.q = carver.take<std::byte>(shape.max_rows * shape.math.query_row(shape.key_width));
    s.scores = carver.take<float>(shape.pass_rows * chunk_keys);
    s.weights = carver.take<std::byte>(shape.max_rows * chunk_keys * shape.math.weight_bytes);
    s.key_panel = carver.take<std::byte>(shape.math.panel(shape.key_width));
    s.value_panel = carver.take<std::byte>(shape.math.panel(chunk_keys));
    s.decoded = carver.take<float>(prepares ? chunk_keys * shape.stream_width : 0);
    s.prepared_keys = carver.take<float>(prepares ? chunk_keys * shape.key_width : 0);
    s.prepared_values = carver.take<float>(shape.makes_values ? chunk_keys * shape.value_width : 0);
    s.states = carver.take<float>(shape.max_rows * shape.slots * shape.state_width);
    s.distance = carver.take<float>(chunk_keys);
    s.stacks = carver.take<MergeStack>(shape.max_rows);
    s.targets = carver.take<RowTarget>(shape.max_rows);
    s.sums = carver.take<ChunkSum>(shape.max_rows);
    s.visible = carver.take<KeyBits>(shape.pass_rows);
    s.chunks = carver.take<PassChunk>(max_pass);
    s.pointers = carver.take<const std::byte*>(3 * chunk_keys + max_ahead + most_key_group);
    s.factor_pointers = carver.take<const std::byte*>(2 * chunk_keys);
    s.key_factors = carver.take<float>(panel_keys * num_factors<Factors::per_block>(shape.key_width));
    s.value_factors = carver.take<float>(chunk_keys * num_factors<Factors::per_block>(panel_dims));
    s.positions = carver.take<Index>(chunk_keys);
    s.far_list = carver.take<Index>(2 * chunk_keys);
    return s;
  }
};

}  // namespace heed::inline HEED_ABI::detail
