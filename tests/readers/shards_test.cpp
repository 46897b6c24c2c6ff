// A checkpoint of many files, and every way its index can lie.
#include "readers/safetensors.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <tuple>

namespace heed_test::shards_test {
namespace {

using heed_examples::Safetensors;
using heed_examples::SafetensorsError;

const std::string first = "model-00001-of-00002.safetensors", second = "model-00002-of-00002.safetensors";

// A folder of its own for every test: two shards, of tensors a and b, and c; and the index.
class Shards : public testing::Test {
 protected:
  Shards() {
    std::filesystem::create_directories(folder);
    write_shard(first, {{"a", 1.0f}, {"b", 2.0f}}, R"("format":"pt","shard":"1")");
    write_shard(second, {{"c", 3.0f}}, R"("format":"pt","shard":"2")");
    write_index({{"a", first}, {"b", first}, {"c", second}});
  }
  ~Shards() override { std::filesystem::remove_all(folder); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name, std::ios::binary) << text;
  }
  void write_shard(const std::string& name, const std::vector<std::pair<std::string, float>>& tensors,
                   const std::string& metadata = {}) const {
    std::string header = R"({"__metadata__":{)" + metadata + "}", data;
    for (const auto& [tensor, number] : tensors) {
      const std::size_t at = data.size();
      header += ",\"" + tensor + R"(":{"dtype":"F32","shape":[1],"data_offsets":[)" + std::to_string(at) + "," +
                std::to_string(at + 4) + "]}";
      data.append(reinterpret_cast<const char*>(&number), 4);
    }
    header += "}";
    const std::uint64_t size = header.size();
    write(name, std::string(reinterpret_cast<const char*>(&size), 8) + header + data);
  }
  void write_index(const std::vector<std::pair<std::string, std::string>>& map) const {
    nlohmann::json json{{"metadata", {{"total_size", 12}}}, {"weight_map", nlohmann::json::object()}};
    for (const auto& [tensor, shard] : map) json["weight_map"][tensor] = shard;
    write(index, json.dump());
  }
  // The message that opening throws, or "accepted".
  [[nodiscard]] std::string verdict(const std::string& name = {}) const {
    try {
      std::ignore = Safetensors::open(name.empty() ? folder : folder / name);
      return "accepted";
    } catch (const SafetensorsError& error) {
      return error.what();
    }
  }
  void expect_says(const std::string& what) const {
    const std::string got = verdict();
    EXPECT_NE(got.find(what), std::string::npos) << got;
  }

  const std::string index = "model.safetensors.index.json";
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("heed_shards_test." + std::to_string(getpid()) + "." +
                                                testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(Shards, AreOneFile) {
  for (const auto& path : {folder, folder / index}) {
    const auto file = Safetensors::open(path);
    EXPECT_EQ(file.tensors().size(), 3u);
    EXPECT_EQ(file.get<float>("a"), std::vector<float>{1});
    EXPECT_EQ(file.get<float>("b"), std::vector<float>{2});
    EXPECT_EQ(file.get<float>("c"), std::vector<float>{3});
    EXPECT_EQ(file.bytes("c").size(), 4u);
    EXPECT_TRUE(file.contains("c"));
    EXPECT_FALSE(file.contains("d"));
    EXPECT_THROW(std::ignore = file.info("d"), SafetensorsError);
    EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  }
  EXPECT_EQ(Safetensors::open(folder / second).tensors().size(), 1u);
}

TEST_F(Shards, OfAFolderWithOneFile) {
  std::filesystem::remove(folder / index);
  expect_says("a folder without model.safetensors.index.json or model.safetensors");
  std::filesystem::rename(folder / first, folder / "model.safetensors");
  EXPECT_EQ(Safetensors::open(folder).tensors().size(), 2u);
}

TEST_F(Shards, ThatAreMissing) {
  std::filesystem::remove(folder / second);
  expect_says(index + ": shard '" + second + "' is missing");
  std::filesystem::create_directory(folder / second);
  expect_says("is missing");
}

TEST_F(Shards, ThatAreBroken) {
  write(second, "short");
  expect_says(second + ": is 5 bytes, shorter than the 8-byte header length");
}

TEST_F(Shards, WithTensorsElsewhere) {
  write_index({{"a", first}, {"b", second}, {"c", second}});
  expect_says("shard '" + first + "' has tensor 'b', which the index puts into '" + second + "'");
  write_index({{"a", first}, {"c", second}});
  expect_says("shard '" + first + "' has tensor 'b', which the index lacks");
  write_index({{"a", first}, {"b", first}, {"c", second}, {"d", second}});
  expect_says("tensor 'd' is not in shard '" + second + "'");
  write_index({{"a", first}, {"b", first}, {"c", second}});
  write_shard(second, {{"c", 3.0f}, {"a", 4.0f}});
  expect_says("shard '" + second + "' has tensor 'a', which the index puts into '" + first + "'");
}

// An index must not have files read that are not beside it.
TEST_F(Shards, OutsideTheFolder) {
  const std::filesystem::path inner = folder / "inner";
  std::filesystem::create_directory(inner);
  for (const std::string& shard :
       {"../" + first, (folder / first).string(), "./" + first, "inner/../" + first, "..\\" + first, std::string(".."),
        std::string("."), std::string(), std::string(".safetensors"), std::string("model.bin"), "c:" + first,
        first + std::string(1, '\0') + ".safetensors"}) {
    nlohmann::json json{{"weight_map", {{"a", shard}}}};
    write("inner/" + index, json.dump());
    const std::string got = verdict("inner");
    EXPECT_NE(got.find("must be a .safetensors file beside the index"), std::string::npos) << got;
  }
}

TEST_F(Shards, WithAnIndexThatIsNone) {
  const std::string map = R"("weight_map":{"a":")" + first + R"("})";
  for (const auto& [text, message] : {std::pair<std::string, std::string>{"", "is not JSON"},
                                      {"[]", "has no weight_map"},
                                      {"{}", "has no weight_map"},
                                      {R"({"weight_map":[]})", "has no weight_map"},
                                      {R"({"weight_map":{}})", "has an empty weight_map"},
                                      {R"({"weight_map":{"a":3}})", "tensor 'a' is in 3, must be"},
                                      {"{" + map + "," + map + "}", "has the key 'weight_map' twice"},
                                      {R"({"weight_map":{"a":"x","a":"x"}})", "has the key 'a' twice"},
                                      {std::string("{}\0", 3), "has a NUL"},
                                      {"\xEF\xBB\xBF{}", "begins with a byte order mark"},
                                      {R"({"weight_map":)" + std::string(100'000, '['), "is nested deeper than 8"}}) {
    write(index, text);
    const std::string got = verdict();
    EXPECT_NE(got.find(index + ": " + message), std::string::npos) << got;
  }
  EXPECT_NE(verdict("nowhere.index.json").find("no such file"), std::string::npos);
}

}  // namespace
}  // namespace heed_test::shards_test
