/// \file
/// Includes all of heed. A backend is included if its library is found and knows the architecture
/// (config/backends.hpp).
#pragma once

#include <heed/config.hpp>  // first: it refuses what would make the rest wrong

// Macros of <windows.h> and <complex.h> break Eigen and the headers below. They are restored at the end of this file.
// A header included on its own does not do this: it needs min and max undefined (NOMINMAX).
#pragma push_macro("I")
#pragma push_macro("min")
#pragma push_macro("max")
#undef I
#undef min
#undef max

#include <heed/analysis/fpba_shape.hpp>
#include <heed/analysis/gmha.hpp>
#include <heed/analysis/step3_report.hpp>
#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/prefix.hpp>
#include <heed/cache/recurrent_state.hpp>
#include <heed/cache/rule_mask.hpp>
#include <heed/cache/sequence_cache.hpp>
#include <heed/cache/strided.hpp>
#include <heed/checked.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/concepts.hpp>
#include <heed/exec/environment.hpp>
#include <heed/exec/openmp.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/hooks.hpp>
#include <heed/kernel/softmax_state.hpp>
#include <heed/layer/grouped.hpp>
#include <heed/layer/mfa.hpp>
#include <heed/layer/mla.hpp>
#include <heed/layer/mtp.hpp>
#include <heed/math/maths.hpp>
#include <heed/partial.hpp>
#include <heed/plan/plan.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/mfa.hpp>
#include <heed/policy/mla.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/policy/shared_row.hpp>
#include <heed/retention/anchors.hpp>
#include <heed/retention/full.hpp>
#include <heed/retention/separator_stream.hpp>
#include <heed/retention/separators.hpp>
#include <heed/retention/sinks.hpp>
#include <heed/retention/window.hpp>
#include <heed/rope/rope.hpp>
#include <heed/rope/yarn.hpp>
#include <heed/simd/backends.hpp>
#include <heed/speculative/decode.hpp>
#include <heed/speculative/tree_mask.hpp>
#include <heed/speculative/tree_paths.hpp>
#include <heed/status.hpp>
#include <heed/ternary/bitnet_attention.hpp>
#include <heed/ternary/import/ggml.hpp>
#include <heed/ternary/import/hugging_face.hpp>
#include <heed/ternary/import/i2_s.hpp>
#include <heed/ternary/matmulfree_lm.hpp>
#include <heed/types.hpp>
#include <heed/workspace.hpp>

#pragma pop_macro("max")
#pragma pop_macro("min")
#pragma pop_macro("I")
