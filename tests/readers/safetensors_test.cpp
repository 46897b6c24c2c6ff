// The safetensors reader: every type, and every way a file can lie.
#include "readers/safetensors.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <tuple>

namespace heed_test::safetensors_test {
namespace {

using heed_examples::Dtype;
using heed_examples::Safetensors;
using heed_examples::SafetensorsError;

std::vector<std::byte> file_of(const std::string& header, std::size_t data_bytes, std::uint64_t length) {
  std::vector<std::byte> bytes(8 + header.size() + data_bytes);
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}
std::vector<std::byte> file_of(const std::string& header, std::size_t data_bytes) {
  return file_of(header, data_bytes, header.size());
}

// The message of the error that parsing throws, or "accepted".
std::string verdict(std::vector<std::byte> bytes) {
  try {
    std::ignore = Safetensors::parse(std::move(bytes), "test");
    return "accepted";
  } catch (const SafetensorsError& error) {
    return error.what();
  }
}
std::string verdict(const std::string& header, std::size_t data_bytes) { return verdict(file_of(header, data_bytes)); }

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

#define EXPECT_REJECTED(expression, part)                \
  do {                                                   \
    const std::string got = expression;                  \
    EXPECT_NE(got.find(part), std::string::npos) << got; \
  } while (false)

template <class Stored>
std::vector<std::byte> one_tensor(const std::string& dtype, const std::vector<Stored>& numbers) {
  const std::size_t size = numbers.size() * sizeof(Stored);
  const std::string count = std::to_string(numbers.size());
  auto bytes = file_of("{" + tensor("t", dtype, "[" + count + "]", "[0," + std::to_string(size) + "]") + "}", size);
  std::memcpy(bytes.data() + bytes.size() - size, numbers.data(), size);
  return bytes;
}

TEST(Safetensors, ReadsEveryType) {
  const auto doubles = [](std::vector<std::byte> bytes) {
    return Safetensors::parse(std::move(bytes), "test").get<double>("t");
  };
  using List = std::vector<double>;
  EXPECT_EQ(doubles(one_tensor<double>("F64", {0.1, -3e300})), (List{0.1, -3e300}));
  EXPECT_EQ(doubles(one_tensor<float>("F32", {0.1f, -2})), (List{double(0.1f), -2}));
  EXPECT_EQ(doubles(one_tensor<std::uint16_t>("BF16", {0x3f80, 0xc040, 0x0001})), (List{1, -3, 0x1p-133}));
  EXPECT_EQ(doubles(one_tensor<std::uint16_t>("F16", {0x3c00, 0xc200, 0x0001, 0x7bff, 0x83ff})),
            (List{1, -3, 0x1p-24, 65504, -1023 * 0x1p-24}));
  EXPECT_EQ(doubles(one_tensor<std::uint16_t>("F16", {0x7c00, 0xfc00})), (List{HUGE_VAL, -HUGE_VAL}));
  EXPECT_TRUE(std::isnan(doubles(one_tensor<std::uint16_t>("F16", {0x7e00}))[0]));
  EXPECT_EQ(doubles(one_tensor<std::int64_t>("I64", {-5, std::int64_t{1} << 40})), (List{-5, 0x1p40}));
  EXPECT_EQ(doubles(one_tensor<std::int32_t>("I32", {-5, 7})), (List{-5, 7}));
  EXPECT_EQ(doubles(one_tensor<std::int16_t>("I16", {-5, 7})), (List{-5, 7}));
  EXPECT_EQ(doubles(one_tensor<std::int8_t>("I8", {-5, 7})), (List{-5, 7}));
  EXPECT_EQ(doubles(one_tensor<std::uint8_t>("U8", {200, 7})), (List{200, 7}));
  EXPECT_EQ(doubles(one_tensor<std::uint8_t>("BOOL", {0, 1})), (List{0, 1}));
}

TEST(Safetensors, ConvertsToTheAskedType) {
  const auto ints = Safetensors::parse(one_tensor<std::int64_t>("I64", {-1, INT64_MAX}), "test");
  EXPECT_EQ(ints.get<std::int64_t>("t"), (std::vector<std::int64_t>{-1, INT64_MAX}));
  const auto reals = Safetensors::parse(one_tensor<double>("F64", {0.1}), "test");
  EXPECT_EQ(reals.get<float>("t"), std::vector<float>{0.1f});
  EXPECT_THROW(std::ignore = reals.get<std::int64_t>("t"), SafetensorsError);
  EXPECT_THROW(std::ignore = reals.get<double>("absent"), SafetensorsError);
}

TEST(Safetensors, GivesShapesBytesAndMetadata) {
  const std::string header = R"({"__metadata__":{"key":"value"},)" + tensor("b", "I16", "[2,3]", "[4,16]") + "," +
                             tensor("a", "F32", "[]", "[0,4]") + "," + tensor("none", "F32", "[3,0]", "[4,4]") + "}   ";
  const auto file = Safetensors::parse(file_of(header, 16), "test");
  EXPECT_EQ(file.metadata().at("key"), "value");
  EXPECT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.info("a").size(), 1);
  EXPECT_EQ(file.info("b").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.info("b").dtype, Dtype::i16);
  EXPECT_EQ(file.bytes("b").size(), 12u);
  EXPECT_EQ(file.info("none").size(), 0);
  EXPECT_TRUE(file.get<float>("none").empty());
  EXPECT_FALSE(file.contains("c"));
}

TEST(Safetensors, AcceptsAFileWithoutTensors) { EXPECT_EQ(verdict("{}", 0), "accepted"); }

TEST(Safetensors, OpensFilesAndSaysWhichIsMissing) {
  const auto path = std::filesystem::temp_directory_path() / ("heed_safetensors_test." + std::to_string(getpid()));
  const auto bytes = one_tensor<float>("F32", {1, 2, 3});
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  EXPECT_EQ(Safetensors::open(path).get<float>("t"), (std::vector<float>{1, 2, 3}));
  std::filesystem::remove(path);
  try {
    std::ignore = Safetensors::open(path);
    FAIL();
  } catch (const SafetensorsError& error) {
    EXPECT_NE(std::string(error.what()).find("heed_safetensors_test"), std::string::npos);
  }
  EXPECT_THROW(std::ignore = Safetensors::open(std::filesystem::temp_directory_path()), SafetensorsError);
}

TEST(SafetensorsHostile, TruncatedAnywhere) {
  const auto whole = one_tensor<float>("F32", {1, 2, 3});
  ASSERT_EQ(verdict(whole), "accepted");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(verdict({whole.begin(), whole.begin() + std::ptrdiff_t(length)}), "accepted") << length;
  }
}

TEST(SafetensorsHostile, AnyByteChanged) {  // must throw or give a consistent file, never read outside
  const auto whole = one_tensor<float>("F32", {1, 2, 3});
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0, 1, 0x22, 0x2c, 0x2d, 0x39, 0x5b, 0x7b, 0x7d, 0x7f, 0xff}) {
      auto bytes = whole;
      bytes[at] = std::byte(value);
      try {
        const auto file = Safetensors::parse(bytes, "test");
        for (const auto& [name, info] : file.tensors()) {
          EXPECT_EQ(file.get<double>(name).size(), std::size_t(info.size()));
        }
      } catch (const SafetensorsError&) {
      }
    }
  }
}

TEST(SafetensorsHostile, HugeHeader) {
  for (const std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{100'000'001}, ~std::uint64_t{0}, ~std::uint64_t{7}}) {
    EXPECT_REJECTED(verdict(file_of("{}", 0, length)), "says its header is");
  }
}

TEST(SafetensorsHostile, HeaderThatIsNotAnObject) {
  EXPECT_REJECTED(verdict("", 0), "not JSON");
  EXPECT_REJECTED(verdict("nonsense", 0), "not JSON");
  EXPECT_REJECTED(verdict("{\"a\":\xff}", 0), "not JSON");
  EXPECT_REJECTED(verdict("[1]", 0), "not a JSON object");
  EXPECT_REJECTED(verdict(std::string(100'000, '['), 0), "nested deeper");
  EXPECT_REJECTED(verdict(R"({"a":1})", 0), "is not {dtype, shape, data_offsets}");
  EXPECT_REJECTED(verdict(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "is not {dtype, shape, data_offsets}");
  EXPECT_REJECTED(verdict(R"({"__metadata__":{"a":1}})", 0), "not a string");
  EXPECT_REJECTED(verdict(R"({"__metadata__":[]})", 0), "not an object");
}

TEST(SafetensorsHostile, DuplicateKeys) {
  const std::string a = tensor("a", "U8", "[1]", "[0,1]");
  EXPECT_REJECTED(verdict("{" + a + "," + a + "}", 1), "'a' twice");
  EXPECT_REJECTED(verdict(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1), "'shape' twice");
  EXPECT_EQ(verdict("{" + a + "," + tensor("b", "U8", "[1]", "[1,2]") + "}", 2), "accepted");
}

TEST(SafetensorsHostile, BadTypesAndShapes) {
  const auto with = [](const std::string& dtype, const std::string& shape) {
    return verdict("{" + tensor("a", dtype, shape, "[0,4]") + "}", 4);
  };
  EXPECT_EQ(with("F32", "[1]"), "accepted");
  EXPECT_REJECTED(with("F32", "[2]"), "need 8");
  EXPECT_REJECTED(with("F32", "[-1]"), "extent of -1");
  EXPECT_REJECTED(with("F32", "[1.0]"), "extent of 1.0");
  EXPECT_REJECTED(with("F32", "[18446744073709551615]"), "extent of");
  EXPECT_REJECTED(with("F32", "[4294967296,4294967296]"), "beyond 2^64");
  EXPECT_REJECTED(with("F32", "[4611686018427387905]"), "beyond 2^64");  // times 4 is 4 modulo 2^64
  EXPECT_REJECTED(with("F32", "[1,1,1,1,1,1,1,1,1]"), "at most 8");
  EXPECT_REJECTED(with("F32", "1"), "at most 8");
  EXPECT_REJECTED(with("", "[1]"), "a type whose name is 0 bytes");
  EXPECT_REJECTED(with(std::string(65, 'F'), "[1]"), "a type whose name is 65 bytes");
  EXPECT_REJECTED(verdict(R"({"a":{"dtype":3,"shape":[1],"data_offsets":[0,4]}})", 4), "unknown type 3");
}

// One tensor that nobody can convert must not hide the others.
TEST(Safetensors, ReadsTheOthersOfAFileWithAnUnknownType) {
  for (const std::string type : {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "I4", "X_OF_2031"}) {
    auto bytes =
        file_of("{" + tensor("odd", type, "[4]", "[0,4]") + "," + tensor("good", "F32", "[1]", "[4,8]") + "}", 8);
    const float number = 2.5f;
    std::memcpy(bytes.data() + bytes.size() - 4, &number, 4);
    const auto file = Safetensors::parse(bytes, "test");
    EXPECT_EQ(file.get<float>("good"), std::vector<float>{2.5f}) << type;
    EXPECT_EQ(file.info("odd").dtype, Dtype::other);
    EXPECT_EQ(file.info("odd").dtype_name, type);
    EXPECT_EQ(file.info("odd").size(), 4);
    EXPECT_EQ(file.bytes("odd").size(), 4u);
    try {
      std::ignore = file.get<double>("odd");
      ADD_FAILURE() << type;
    } catch (const SafetensorsError& error) {
      EXPECT_EQ(error.what(), "test: tensor 'odd' has the type " + type + ", which this reader does not convert");
    }
    EXPECT_THROW(std::ignore = file.get<std::int64_t>("odd"), SafetensorsError);
  }
  EXPECT_EQ(verdict("{" + tensor("a", "U64", "[2]", "[0,16]") + "}", 16), "accepted");
  EXPECT_REJECTED(verdict("{" + tensor("a", "U64", "[1]", "[0,16]") + "}", 16), "need 8");
  EXPECT_REJECTED(verdict("{" + tensor("a", "F8_E4M3", "[3]", "[0,4]") + "}", 4), "need 3");
  EXPECT_REJECTED(verdict("{" + tensor("a", "F4", "[4294967296,4294967296]", "[0,4]") + "}", 4), "beyond 2^64");
  EXPECT_REJECTED(verdict("{" + tensor("a", "F4", "[9223372036854775807,2]", "[0,4]") + "}", 4), "beyond 2^64");
}

TEST(SafetensorsHostile, NulAndByteOrderMark) {
  const std::string good = "{" + tensor("a", "U8", "[1]", "[0,1]") + "}";
  EXPECT_EQ(verdict(good + "   ", 1), "accepted");  // padding
  EXPECT_REJECTED(verdict(good + std::string(1, '\0'), 1), "has a NUL at byte");
  EXPECT_REJECTED(verdict(good + std::string(8, '\0') + "nonsense", 1), "has a NUL at byte");
  EXPECT_REJECTED(verdict(std::string("{\"a\0b\":1}", 9), 0), "has a NUL at byte 3");
  EXPECT_REJECTED(verdict("\xEF\xBB\xBF" + good, 1), "begins with a byte order mark");
  EXPECT_REJECTED(verdict(" " + good, 1), "does not begin with {");
  EXPECT_REJECTED(verdict(good + "x", 1), "not JSON");
  // An escaped NUL is a name like others.
  EXPECT_EQ(verdict("{" + tensor("a\\u0000", "U8", "[1]", "[0,1]") + "," + tensor("a", "U8", "[1]", "[1,2]") + "}", 2),
            "accepted");
}

TEST(SafetensorsHostile, EmptyTensorsHaveTheirPlace) {
  const auto with = [](const std::string& offsets) {
    return verdict("{" + tensor("a", "U8", "[4]", "[0,4]") + "," + tensor("b", "U8", "[4]", "[4,8]") + "," +
                       tensor("none", "U8", "[0]", offsets) + "}",
                   8);
  };
  EXPECT_EQ(with("[0,0]"), "accepted");
  EXPECT_EQ(with("[4,4]"), "accepted");
  EXPECT_EQ(with("[8,8]"), "accepted");
  EXPECT_REJECTED(with("[2,2]"), "overlap at data byte 2");
  EXPECT_REJECTED(with("[7,7]"), "overlap at data byte 7");
  EXPECT_REJECTED(with("[9,9]"), "of 8 data bytes");
}

// 100,000 levels in a string of the metadata are a string to this reader; parse_json() is for those who read it.
TEST(SafetensorsHostile, DeepJson) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_EQ(verdict(R"({"__metadata__":{"config":")" + deep + "\"}}", 0), "accepted");
  EXPECT_REJECTED(verdict(R"({"__metadata__":)" + deep + "}", 0), "nested deeper than 4");
  for (const auto& [text, message] : {std::pair{deep, "is nested deeper than 16"},
                                      {std::string(100'000, '['), "is nested deeper than 16"},
                                      {std::string(17, '[') + std::string(17, ']'), "read"},
                                      {std::string(18, '[') + std::string(18, ']'), "is nested deeper than 16"},
                                      {std::string(R"({"a":1,"a":2})"), "has the key 'a' twice"}}) {
    std::string got = "read";
    try {
      std::ignore = heed_examples::parse_json(text, 16);
    } catch (const heed_examples::JsonError& error) {
      got = error.what();
    }
    EXPECT_EQ(got, message);
  }
}

TEST(SafetensorsHostile, BadOffsets) {
  const auto with = [](const std::string& offsets) {
    return verdict("{" + tensor("a", "U8", "[4]", offsets) + "}", 4);
  };
  EXPECT_EQ(with("[0,4]"), "accepted");
  EXPECT_REJECTED(with("[1,5]"), "of 4 data bytes");
  EXPECT_REJECTED(with("[4,0]"), "of 4 data bytes");
  EXPECT_REJECTED(with("[18446744073709551612,18446744073709551616]"), "non-negative integers");
  EXPECT_REJECTED(with("[18446744073709551612,0]"), "of 4 data bytes");
  EXPECT_REJECTED(with("[-4,0]"), "non-negative integers");
  EXPECT_REJECTED(with("[0,4.0]"), "non-negative integers");
  EXPECT_REJECTED(with("[0]"), "non-negative integers");
  EXPECT_REJECTED(with("[0,3]"), "need 4");
}

TEST(SafetensorsHostile, OverlapGapAndTrailingBytes) {
  const auto two = [](const std::string& first, const std::string& second, std::size_t bytes) {
    return verdict("{" + tensor("a", "U8", "[4]", first) + "," + tensor("b", "U8", "[4]", second) + "}", bytes);
  };
  EXPECT_EQ(two("[4,8]", "[0,4]", 8), "accepted");
  EXPECT_REJECTED(two("[0,4]", "[2,6]", 6), "overlap at data byte 2");
  EXPECT_REJECTED(two("[0,4]", "[0,4]", 4), "overlap at data byte 0");
  EXPECT_REJECTED(two("[0,4]", "[5,9]", 9), "gap before data byte 5");
  EXPECT_REJECTED(two("[0,4]", "[4,8]", 9), "1 bytes that belong to no tensor");
}

}  // namespace
}  // namespace heed_test::safetensors_test
