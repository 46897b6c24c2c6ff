/// \file
/// The numbers of a layer's matrices, as floats or as bfloat16.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include <heed/checked.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/matrix.hpp>
#include <heed/memory.hpp>

namespace heed::inline HEED_ABI {

/// How a layer stores its weights. Products are products of floats for both: a stored number is widened first, exactly.
enum class WeightType {
  f32,  ///< the numbers of the tensor
  /// Rounded once, when the layer is created, as Bf16 rounds rows: half the memory, and half of what a decode step reads.
  /// Nothing is lost if the checkpoint has bfloat16 weights. Otherwise each weight changes by at most 2^-8 of itself.
  bf16,
};

namespace detail {

/// Floats of a layer, aligned for vectors.
class Floats {
 public:
  [[nodiscard]] static Result<Floats> create(Count count, const char* name) {
    const Count size = count * Index(sizeof(float));
    if (!size.fits()) return fail(StatusCode::out_of_memory, name, ": cannot allocate ", count, " floats");
    Result<Buffer> bytes = Buffer::allocate(default_memory(), size.value(), name);
    if (!bytes.ok()) return bytes.status();
    Floats made;
    made.bytes_ = *std::move(bytes);
    return made;
  }
  [[nodiscard]] float* data() noexcept { return reinterpret_cast<float*>(bytes_.data()); }
  [[nodiscard]] const float* data() const noexcept { return reinterpret_cast<const float*>(bytes_.data()); }
  [[nodiscard]] std::span<const float> span() const noexcept {
    return {data(), std::size_t(bytes_.size()) / sizeof(float)};
  }

 private:
  Buffer bytes_;
};

/// Numbers of a layer as a WeightType, aligned for vectors. Default-made: no numbers.
class Weights {
 public:
  /// Room for `count` numbers, which are uninitialised. invalid_argument if there is no such type, or out_of_memory.
  [[nodiscard]] static Result<Weights> create(Count count, WeightType type, const char* name) {
    if (type != WeightType::f32 && type != WeightType::bf16) {
      return fail(StatusCode::invalid_argument, name, ": weight type is ", int(type), ", must be f32 or bf16");
    }
    const Count size = count * (type == WeightType::f32 ? Index(sizeof(float)) : Index(sizeof(std::uint16_t)));
    if (!size.fits()) return fail(StatusCode::out_of_memory, name, ": cannot allocate ", count, " weights");
    Result<Buffer> bytes = Buffer::allocate(default_memory(), size.value(), name);
    if (!bytes.ok()) return bytes.status();
    Weights made;
    made.bytes_ = *std::move(bytes);
    made.type_ = type;
    return made;
  }

  /// Stores the weight w [out][in] as the matrix of panels that begins at number `at`: m[i][o] = w[o][i], rounded if need
  /// be.
  void set_panels(Index at, const float* w, Index out, Index in) noexcept {
    for (Index o = 0; o < out; ++o) {
      for (Index i = 0; i < in; ++i) set(at + Matrix::index_in_panels(in, out, i, o), w[o * in + i]);
    }
  }
  /// The same of the weight's transpose: m[i][o] = w[i][o], w [in][out].
  void set_panels_transposed(Index at, const float* w, Index out, Index in) noexcept {
    for (Index i = 0; i < in; ++i) {
      for (Index o = 0; o < out; ++o) set(at + Matrix::index_in_panels(in, out, i, o), w[i * out + o]);
    }
  }

  [[nodiscard]] WeightType type() const noexcept { return type_; }
  /// Bytes of the numbers.
  [[nodiscard]] Index bytes() const noexcept { return bytes_.size(); }
  /// The matrix [in][out] of panels that begins at number `at`.
  [[nodiscard]] Matrix panels(Index at, Index in, Index out) const noexcept {
    return Matrix{.data = floats().data(), .in = in, .out = out, .bf16 = bf16().data(), .panels = true}.moved(at);
  }
  /// The numbers. Empty if they have the other type.
  /// \{
  [[nodiscard]] std::span<const float> floats() const noexcept {
    if (type_ != WeightType::f32) return {};
    return {reinterpret_cast<const float*>(bytes_.data()), std::size_t(bytes_.size()) / sizeof(float)};
  }
  [[nodiscard]] std::span<const std::uint16_t> bf16() const noexcept {
    if (type_ != WeightType::bf16) return {};
    return {reinterpret_cast<const std::uint16_t*>(bytes_.data()), std::size_t(bytes_.size()) / sizeof(std::uint16_t)};
  }
  /// \}

 private:
  void set(Index at, float number) noexcept {
    if (type_ == WeightType::f32) {
      reinterpret_cast<float*>(bytes_.data())[at] = number;
    } else {
      reinterpret_cast<std::uint16_t*>(bytes_.data())[at] = Bf16::from_float(number);
    }
  }

  Buffer bytes_;
  WeightType type_ = WeightType::f32;
};

}  // namespace detail

}  // namespace heed::inline HEED_ABI
