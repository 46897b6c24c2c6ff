/// \file
/// The least a user writes to model each concept. The *_fail.cpp files take one requirement away, by hiding it.
#pragma once

#include <heed/attend.hpp>
#include <heed/simd/scalar.hpp>

namespace minimal {

using heed::Index;

/// One head of 16 numbers; keys are the values.
struct Policy {
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 0;
  heed::Status validate() const { return {}; }
  heed::AttentionLayout layout() const {
    return {.num_streams = 1,
            .streams = {heed::StreamShape{1, 16}},
            .key = {.stream = 0, .offset = 0, .width = 16},
            .value = {.stream = 0, .offset = 0, .width = 16},
            .num_heads = 1,
            .num_kv_heads = 1,
            .key_width = 16,
            .value_width = 16,
            .scale = 0.25f};
  }
  heed::Identity query_map() const { return {}; }
  heed::Identity output_map() const { return {}; }
  heed::Identity preparation() const { return {}; }
};

/// 16 numbers to 16 numbers.
struct Map {
  Index in_width() const { return 16; }
  Index out_width() const { return 16; }
  void apply(Index, Index rows, const float* in, Index in_stride, float* out, Index out_stride, heed::Linear) const {
    for (Index r = 0; r < rows; ++r) {
      for (Index d = 0; d < 16; ++d) out[r * out_stride + d] = -in[r * in_stride + d];
    }
  }
};

/// Keys are the stored rows, negated.
struct Preparation {
  bool makes_values() const { return false; }
  void keys(Index, Index count, const float* rows, const Index*, float* out, heed::Linear) const {
    for (Index i = 0; i < count * 16; ++i) out[i] = -rows[i];
  }
  void values(Index, Index, const float*, const Index*, float*, heed::Linear) const {}
};

/// One byte per number, multiples of 1/16.
struct Codec {
  static constexpr const char* name = "sixteenths";
  static constexpr heed::Factors factors = heed::Factors::none;
  static constexpr Index view_step = 1;
  static constexpr Index row_alignment = 16;
  static Index row_bytes(Index width) { return width; }
  static Index factor_bytes(Index) { return 0; }
  static Index offset_bytes(Index first) { return first; }
  static void encode(const float* in, Index width, std::byte* row, std::byte*) {
    for (Index i = 0; i < width; ++i) row[i] = std::byte(int(in[i] * 16) & 255);
  }
  static void codes(const std::byte* row, Index first, Index n, float* out) {
    for (Index i = 0; i < n; ++i) out[i] = float(static_cast<signed char>(row[first + i])) / 16;
  }
  template <class V>
  struct Reader {
    using Reg = typename V::Reg;
    static constexpr int group_words = 1;
    static constexpr int group_numbers = 4;
    static Reg number(const Reg* group, int i) {
      return V::from_ints((typename V::Ints)(V::words(*group) << (24 - 8 * i)) >> 24) * 0.0625f;
    }
    static Reg load(const std::byte* row, Index first) { return V::from_bytes(V::load_bytes(row + first)) * 0.0625f; }
  };
};

/// Rows one after the other.
struct Source {
  using KeyCodec = heed::F32;
  using ValueCodec = heed::F32;
  const std::byte* rows = nullptr;
  Index tokens = 0;
  Index size() const { return tokens; }
  heed::RowRun row_run(int, Index, Index first, Index max) const {
    return {.data = rows + first * 64, .rows = max, .stride_bytes = 64, .readable_bytes = 64};
  }
  Index position(Index key) const { return key; }
};

/// Keys at even positions.
struct Mask {
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  bool visible(Index, Index key) const { return key % 2 == 0; }
};

/// Every fourth token is a landmark, and the last token is recent.
struct Rule {
  static constexpr const char* name = "fourth";
  static constexpr bool has_history = false;
  static constexpr bool has_ranks = false;
  heed::Status validate() const { return {}; }
  bool needs_ids() const { return false; }
  bool evicts_before_step() const { return false; }
  heed::Role role(Index position, std::int32_t) const {
    return position % 4 == 0 ? heed::Role::landmark : heed::Role::plain;
  }
  bool sees_landmarks(Index, std::int32_t) const { return true; }
  heed::Recall recall(const heed::History& history) const { return {.begin = history.next}; }
  Index rollback_floor(Index evicted, Index) const { return evicted + 1; }
  template <class Field>
  void describe(Field&&) const {}
};

/// A backend of one's own replaces the loops it can improve.
struct Backend : heed::Scalar {
  static constexpr const char* name = "mine";
  static void merge(float a, const float* left, float b, const float* right, Index n, float* out) {
    for (Index d = 0; d < n; ++d) out[d] = fma(a, left[d], b * right[d]);
  }
};

/// Adds as the backend does, and halves queries.
struct Math {
  static constexpr const char* name = "halves";
  using Query = float;
  using Panel = float;
  using Weight = float;
  static constexpr Index query_numbers = 1;
  static constexpr Index panel_numbers = 1;
  static constexpr Index weight_place(Index slot) { return slot; }
  template <class B>
  struct On : B {
    static void queries(const float* q, Index rows, Index width, float* out) {
      for (Index i = 0; i < rows * width; ++i) out[i] = q[i] / 2;
    }
    static heed::ChunkSum softmax(float* s, Index count, float*) { return B::softmax(s, count); }
  };
};

/// Runs the tasks backwards.
struct Executor {
  Index workers() const { return 1; }
  void parallel_for(Index tasks, heed::FunctionRef<void(Index, Index)> body) {
    while (tasks > 0) body(--tasks, 0);
  }
};

/// attend() with these parts.
template <class B = Backend, class P = Policy, class S = Source, class M = Mask, class E = Executor,
          class A = heed::math::F32>
heed::Status attend() {
  float q[16] = {}, out[16];
  heed::Workspace workspace;
  E executor;
  const M mask{};
  return heed::attend<B, A>(P{}, std::span<const float>(q), S{}, heed::MaskRef(mask), std::span<float>(out), workspace,
                            executor);
}

}  // namespace minimal
