// What an engine with one mechanism, one codec and one backend compiles: the unit whose compilation time is bounded.
#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/simd/xsimd.hpp>

heed::Status attend_once(const heed::Gqa& policy, const heed::StridedSource<heed::Bf16>& keys, std::span<const float> q,
                         std::span<float> out, heed::Workspace& workspace) {
  heed::SerialExecutor executor;
  return heed::attend<heed::Xsimd<>>(policy, q, keys, heed::Causal{}, out, workspace, executor);
}
