// Kills mutants of the checks of sizes, positions and numbers that a caller gives.
#include <array>
#include <limits>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/layer/projection.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/window.hpp>
#include <heed/simd/scalar.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::Index;
constexpr Index huge = std::numeric_limits<Index>::max();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// A policy of somebody else, which finds everything right.
struct Wild {
  heed::AttentionLayout shape;

  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  heed::Status validate() const { return {}; }
  heed::AttentionLayout layout() const { return shape; }
  heed::Identity query_map() const { return {}; }
  heed::Identity output_map() const { return {}; }
  heed::Identity preparation() const { return {}; }
};

constexpr heed::Gqa policy{.num_heads = 2, .num_kv_heads = 1, .head_dim = 4, .scale = 0.5f};

/// One query over three keys.
struct Call {
  std::array<float, 12> rows{1, 2, 3, 4, -1, 2, 0, 1, 5, 1, 1, 2};
  Index row_bytes = 16;
  std::array<Index, 1> position{2};
  std::array<float, 2> sinks{};
  bool with_sinks = false;
  std::array<float, 8> out{};

  heed::Status operator()() {
    const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 16, 16, row_bytes};
    const heed::StridedSource<heed::F32> keys(3, stream, stream);
    const std::array<float, 8> q{1, 0, 1, 0, 0, 1, 0, 1};
    heed::AttendOptions options;
    if (with_sinks) options.sink_logits = sinks;
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    return heed::attend<heed::Scalar>(policy, q, keys, heed::Causal{}, out, workspace, executor, options, {}, position);
  }
};

void sizes() {
  const Index n = Index{1} << 32;
  killer::expect(!heed::check_tensor("w", {{}, n, n}, n, n).ok(), "sizes: a product that overflows", "2^32 x 2^32");
  killer::expect((heed::Count(3) * 5 + 2).value() == 17, "sizes: small", "3 * 5 + 2");
  killer::expect(!heed::Projection::create("w", {{}, 0, 5}, 0, 5).ok(), "projection: of nothing", "[0, 5]");
  const float weight = 1;
  killer::expect(!heed::Projection::create("w", {{&weight, 1}, 1, 1}, 1, 1, heed::WeightType(7)).ok(),
                 "projection: of no type", "7");
  Wild wild{policy.layout()};
  killer::expect(heed::workspace_bytes(wild, 1, 1, 1).ok(), "layout: good", "of another policy");
  wild.shape.streams[0].width = Index{1} << 40;
  killer::expect(!heed::workspace_bytes(wild, 1, 1, 1).ok(), "layout: of anybody", "a stream of 2^40 numbers");
  const heed::Gqa many{.num_heads = 1 << 20, .num_kv_heads = 1, .head_dim = 4, .scale = 1};
  killer::expect(!heed::workspace_bytes(many, Index{1} << 48, 1, 1).ok(), "workspace: queries of all heads", "2^68");
}

/// Three keys of a source that says how many slots it has.
struct Slots : heed::StridedSource<heed::F32> {
  Index all;
  Slots(const heed::StridedStream& stream, Index slots)
      : heed::StridedSource<heed::F32>(3, stream, stream), all(slots) {}
  Index slots() const { return all; }
  Index slot_position(Index slot) const { return slot < all - 1 ? slot : 2; }
  heed::RowRun slot_row_run(int stream, Index head, Index first, Index max) const {
    return row_run(stream, head, first, max);
  }
  heed::Interval next_hole(Index) const { return {all, all}; }
};
static_assert(heed::SlottedSource<Slots>);

/// Asked alone: a call with so many slots would not end.
void slots() {
  const std::array<float, 12> rows{};
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 16, 16, 16};
  const auto says = [&](Index count) {
    const Slots keys(stream, count);
    return heed::detail::check_positions({.source = &heed::detail::source_table<Slots>, .keys = &keys});
  };
  killer::expect(says(3).ok(), "slots: good", "as many as keys");
  for (const Index count : {Index{2}, Index{1} << 62, Index{-1}}) {
    killer::expect(!says(count).ok(), "slots: of a source", "fewer than keys, or 2^62");
  }
}

void calls() {
  Call good;
  killer::expect(good().ok(), "calls: good", "call");
  for (const Index position : {Index{1} << 62, -(Index{1} << 62)}) {
    Call call;
    call.position = {position};
    killer::expect(!call().ok(), "positions: of queries", "2^62");
  }
  killer::expect(heed::SlidingWindow{heed::unlimited}.rollback_floor(5, 0) == huge, "positions: the end", "a window");
  Call call;
  call.row_bytes = 12;
  killer::expect(!call().ok(), "strided: short rows", "12 bytes of 16");
  Call sink;
  sink.with_sinks = true;
  sink.sinks = {0, infinity};
  killer::expect(!sink().ok(), "sinks: of +inf", "head 1");
  Call absent;
  absent.with_sinks = true;
  absent.sinks = {-infinity, -infinity};
  killer::expect(absent().ok() && absent.out == good.out, "sinks: absent", "-inf");
}

}  // namespace

int main() {
  sizes();
  slots();
  calls();
  return killer::failures == 0 ? 0 : 1;
}
