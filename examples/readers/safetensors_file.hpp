/// \file
/// One safetensors file, read by somebody who trusts nothing in it.
///
/// Layout (github.com/huggingface/safetensors): 8 bytes little-endian header length N, N bytes of JSON
/// {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {...}}, then data.
/// The header begins with {. Offsets count from the start of the data, which the tensors must cover without gap or overlap
/// in the order of their offsets, empty ones included, as the reference implementation asks, too.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "readers/json.hpp"

namespace heed_examples {

static_assert(std::endian::native == std::endian::little, "the reader copies little-endian numbers as they are");

/// Says which file, and which tensor or byte count in it, is wrong.
class SafetensorsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What get() converts. `other` is every type that it does not, also those to come: such a tensor has bytes only.
enum class Dtype { f64, f32, bf16, f16, i64, i32, i16, i8, u8, boolean, other };

struct TensorInfo {
  Dtype dtype = Dtype::f32;
  std::string dtype_name;  ///< as the file spells it
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< first byte, from the start of the data
  std::uint64_t end = 0;

  [[nodiscard]] std::int64_t size() const {
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
    std::int64_t n = 1;
    for (const std::int64_t extent : shape) n *= extent;  // checked when it was read
    return n;
  }
};

/// A whole file in memory. Every member throws SafetensorsError; a constructed object is consistent.
class SafetensorsFile {
 public:
  static constexpr std::uint64_t max_header_bytes = 100'000'000;  // the limit of the reference implementation
  static constexpr std::size_t max_dims = 8;
  static constexpr std::size_t max_dtype_bytes = 64;

  [[nodiscard]] static SafetensorsFile open(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) throw SafetensorsError(path.string() + ": no such file");
    const std::uint64_t size = std::filesystem::file_size(path, error);
    std::ifstream file(path, std::ios::binary);
    if (error || !file) throw SafetensorsError(path.string() + ": cannot be opened");
    std::vector<std::byte> bytes;
    try {
      bytes.resize(size);
    } catch (const std::exception&) {  // bad_alloc, or length_error
      throw SafetensorsError(path.string() + ": there is no memory for its " + std::to_string(size) + " bytes");
    }
    if (!file.read(reinterpret_cast<char*>(bytes.data()), std::streamsize(size))) {
      throw SafetensorsError(path.string() + ": could not read " + std::to_string(size) + " bytes");
    }
    return parse(std::move(bytes), path.filename().string());
  }

  /// Takes the content of a file; `name` is for messages.
  [[nodiscard]] static SafetensorsFile parse(std::vector<std::byte> bytes, std::string name) {
    return SafetensorsFile(std::move(bytes), std::move(name));
  }

  [[nodiscard]] const std::string& name() const { return name_; }

  [[nodiscard]] bool contains(const std::string& tensor) const { return tensors_.contains(tensor); }
  [[nodiscard]] const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

  [[nodiscard]] const TensorInfo& info(const std::string& tensor) const {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end()) fail("has no tensor '" + tensor + "'");
    return found->second;
  }

  /// The stored bytes of a tensor; they live as long as this object.
  [[nodiscard]] std::span<const std::byte> bytes(const std::string& tensor) const {
    const TensorInfo& t = info(tensor);
    return std::span(bytes_).subspan(data_begin_ + t.begin, t.end - t.begin);
  }

  /// All numbers of a tensor, row-major, as T: double or float (from any type; F64 to float rounds), or std::int64_t
  /// (from integers and BOOL only).
  template <class T>
  [[nodiscard]] std::vector<T> get(const std::string& tensor) const {
    static_assert(std::is_same_v<T, double> || std::is_same_v<T, float> || std::is_same_v<T, std::int64_t>);
    const TensorInfo& t = info(tensor);
    const std::span<const std::byte> from = bytes(tensor);
    if constexpr (std::is_integral_v<T>) {
      if (t.dtype <= Dtype::f16) fail("tensor '" + tensor + "' holds floating point numbers, not integers");
    }
    switch (t.dtype) {
      case Dtype::f64: return convert<T, double>(from, [](double x) { return x; });
      case Dtype::f32: return convert<T, float>(from, [](float x) { return x; });
      case Dtype::bf16: return convert<T, std::uint16_t>(from, bf16_to_float);
      case Dtype::f16: return convert<T, std::uint16_t>(from, f16_to_float);
      case Dtype::i64: return convert<T, std::int64_t>(from, [](std::int64_t x) { return x; });
      case Dtype::i32: return convert<T, std::int32_t>(from, [](std::int32_t x) { return x; });
      case Dtype::i16: return convert<T, std::int16_t>(from, [](std::int16_t x) { return x; });
      case Dtype::i8: return convert<T, std::int8_t>(from, [](std::int8_t x) { return x; });
      case Dtype::u8: return convert<T, std::uint8_t>(from, [](std::uint8_t x) { return x; });
      case Dtype::boolean: return convert<T, std::uint8_t>(from, [](std::uint8_t x) { return x != 0; });
      case Dtype::other: break;
    }
    fail("tensor '" + tensor + "' has the type " + t.dtype_name + ", which this reader does not convert");
  }

 private:
  using Json = nlohmann::json;

  SafetensorsFile(std::vector<std::byte> bytes, std::string name) : bytes_(std::move(bytes)), name_(std::move(name)) {
    if (bytes_.size() < 8)
      fail("is " + std::to_string(bytes_.size()) + " bytes, shorter than the 8-byte header length");
    std::uint64_t header = 0;
    std::memcpy(&header, bytes_.data(), sizeof header);
    if (header > max_header_bytes || header > bytes_.size() - 8) {
      fail("says its header is " + std::to_string(header) + " bytes, but " + std::to_string(bytes_.size() - 8) +
           " follow and " + std::to_string(max_header_bytes) + " are allowed");
    }
    data_begin_ = 8 + std::size_t(header);
    const Json json = parse_header(header);
    for (const auto& [key, value] : json.items()) {
      if (key == "__metadata__") {
        read_metadata(value);
      } else {
        tensors_.emplace(key, read_tensor(key, value));
      }
    }
    check_cover();
  }

  [[noreturn]] void fail(const std::string& what) const { throw SafetensorsError(name_ + ": " + what); }

  [[nodiscard]] Json parse_header(std::uint64_t size) const {
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + 8, std::size_t(size));
    Json json;
    try {
      json = parse_json(text, 4);
    } catch (const JsonError& error) {
      fail(std::string("has a header that ") + error.what());
    }
    if (!json.is_object()) fail("has a header that is not a JSON object");
    if (text.front() != '{') fail("has a header that does not begin with {");
    return json;
  }

  void read_metadata(const Json& value) {
    if (!value.is_object()) fail("has a __metadata__ that is not an object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) fail("has a __metadata__ value for '" + key + "' that is not a string");
      metadata_.emplace(key, text.get<std::string>());
    }
  }

  [[nodiscard]] TensorInfo read_tensor(const std::string& key, const Json& value) const {
    const std::string who = "tensor '" + key + "' ";
    if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
        !value.contains("data_offsets")) {
      fail(who + "is not {dtype, shape, data_offsets}");
    }
    TensorInfo t;
    const Type type = read_dtype(who, value["dtype"]);
    t.dtype = type.dtype;
    t.dtype_name = value["dtype"].get<std::string>();
    std::uint64_t bytes = type.bytes;
    const Json& shape = value["shape"];
    if (!shape.is_array() || shape.size() > max_dims) fail(who + "has a shape that is not a list of at most 8 numbers");
    bool empty = false;
    std::int64_t count = 1;
    for (const Json& extent : shape) {
      if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() > std::uint64_t(INT64_MAX)) {
        fail(who + "has an extent of " + extent.dump());
      }
      const auto n = extent.get<std::uint64_t>();
      t.shape.push_back(std::int64_t(n));
      empty = empty || n == 0;
      if (n != 0 && (__builtin_mul_overflow(bytes, n, &bytes) || __builtin_mul_overflow(count, n, &count))) {
        fail(who + "has a shape beyond 2^64 bytes");
      }
    }
    if (empty) bytes = 0;
    const Json& offsets = value["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned()) {
      fail(who + "has data_offsets " + offsets.dump() + ", must be two non-negative integers");
    }
    t.begin = offsets[0].get<std::uint64_t>();
    t.end = offsets[1].get<std::uint64_t>();
    const std::uint64_t available = bytes_.size() - data_begin_;
    if (t.begin > t.end || t.end > available) {
      fail(who + "lies at " + offsets.dump() + " of " + std::to_string(available) + " data bytes");
    }
    if (type.bytes != 0 && t.end - t.begin != bytes) {
      fail(who + "has " + std::to_string(t.end - t.begin) + " bytes, its shape and type need " + std::to_string(bytes));
    }
    return t;
  }

  struct Type {
    Dtype dtype = Dtype::other;
    std::uint64_t bytes = 0;  ///< of a number; 0: not known, or no whole ones
  };

  [[nodiscard]] Type read_dtype(const std::string& who, const Json& value) const {
    static const std::map<std::string, Type> known = {
        {"F64", {Dtype::f64, 8}},       {"F32", {Dtype::f32, 4}},      {"BF16", {Dtype::bf16, 2}},
        {"F16", {Dtype::f16, 2}},       {"I64", {Dtype::i64, 8}},      {"I32", {Dtype::i32, 4}},
        {"I16", {Dtype::i16, 2}},       {"I8", {Dtype::i8, 1}},        {"U8", {Dtype::u8, 1}},
        {"BOOL", {Dtype::boolean, 1}},  {"U16", {Dtype::other, 2}},    {"U32", {Dtype::other, 4}},
        {"U64", {Dtype::other, 8}},     {"C64", {Dtype::other, 8}},    {"F8_E4M3", {Dtype::other, 1}},
        {"F8_E5M2", {Dtype::other, 1}}, {"F8_E8M0", {Dtype::other, 1}}};
    if (!value.is_string()) fail(who + "has the unknown type " + value.dump());
    const auto& name = value.get_ref<const std::string&>();
    if (name.empty() || name.size() > max_dtype_bytes) {
      fail(who + "has a type whose name is " + std::to_string(name.size()) + " bytes");
    }
    const auto found = known.find(name);
    return found == known.end() ? Type{} : found->second;
  }

  void check_cover() const {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
    for (const auto& [name, t] : tensors_) ranges.emplace_back(t.begin, t.end);
    std::sort(ranges.begin(), ranges.end());
    std::uint64_t at = 0;
    for (const auto& [begin, end] : ranges) {
      if (begin != at) {
        fail((begin < at ? "has tensors that overlap at data byte " : "has a gap before data byte ") +
             std::to_string(begin));
      }
      at = end;
    }
    if (at != bytes_.size() - data_begin_) {
      fail("has " + std::to_string(bytes_.size() - data_begin_ - at) + " bytes that belong to no tensor");
    }
  }

  template <class T, class Stored, class F>
  [[nodiscard]] static std::vector<T> convert(std::span<const std::byte> from, F&& to_number) {
    std::vector<T> out(from.size() / sizeof(Stored));
    for (std::size_t i = 0; i < out.size(); ++i) {
      Stored stored;
      std::memcpy(&stored, from.data() + i * sizeof stored, sizeof stored);
      out[i] = static_cast<T>(to_number(stored));
    }
    return out;
  }

  [[nodiscard]] static float bf16_to_float(std::uint16_t bits) {
    return std::bit_cast<float>(std::uint32_t(bits) << 16);
  }
  [[nodiscard]] static float f16_to_float(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    float size = std::ldexp(float(fraction), -24);
    if (exponent == 31) size = fraction == 0 ? HUGE_VALF : std::nanf("");
    if (exponent > 0 && exponent < 31) size = std::ldexp(float(1024 + fraction), exponent - 25);
    return std::copysign(size, (bits & 0x8000) != 0 ? -1.0f : 1.0f);
  }

  std::vector<std::byte> bytes_;
  std::string name_;
  std::size_t data_begin_ = 0;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace heed_examples
