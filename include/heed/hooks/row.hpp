/// \file
/// Which row of a call a hook is asked about.
#pragma once

#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// A query of one query head, and the worker that computes it.
struct HookRow {
  Index sequence = 0;  ///< index of the sequence in the batch; 0 in attend()
  Index query = 0;     ///< index of the query in the sequence
  Index position = 0;  ///< place of the query in its text: what ALiBi and rotations go by
  Index head = 0;      ///< query head
  Index kv_head = 0;   ///< KV head that the query head reads
  Index worker = 0;    ///< in [0, executor.workers()); calls with the same worker never overlap
};

}  // namespace heed::inline HEED_ABI
