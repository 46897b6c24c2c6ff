/// \file
/// The tensors of a checkpoint, in one file or in many.
///
/// Many files, or shards, come with model.safetensors.index.json: {"metadata": {...}, "weight_map": {"tensor":
/// "model-00001-of-00002.safetensors", ...}}. Shards lie beside it.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "readers/json.hpp"
#include "readers/safetensors_file.hpp"

namespace heed_examples {

/// One file or all shards of an index, in memory, as if they were one file. Every member throws SafetensorsError; a
/// constructed object is consistent.
class Safetensors {
 public:
  static constexpr std::uintmax_t max_index_bytes = SafetensorsFile::max_header_bytes;

  /// A .safetensors file, an index (.json), or a folder with model.safetensors.index.json or model.safetensors.
  [[nodiscard]] static Safetensors open(const std::filesystem::path& path) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
      for (const char* name : {"model.safetensors.index.json", "model.safetensors"}) {
        if (std::filesystem::exists(path / name, error)) return open(path / name);
      }
      throw SafetensorsError(path.string() + ": a folder without model.safetensors.index.json or model.safetensors");
    }
    if (path.extension() == ".json") return open_index(path);
    Safetensors made;
    made.add(SafetensorsFile::open(path));
    return made;
  }

  /// Takes the content of a file; `name` is for messages.
  [[nodiscard]] static Safetensors parse(std::vector<std::byte> bytes, std::string name) {
    Safetensors made;
    made.add(SafetensorsFile::parse(std::move(bytes), std::move(name)));
    return made;
  }

  [[nodiscard]] bool contains(const std::string& tensor) const { return tensors_.contains(tensor); }
  [[nodiscard]] const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  /// Of shards, the entries that all of them agree on.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  [[nodiscard]] const TensorInfo& info(const std::string& tensor) const { return file_of(tensor).info(tensor); }
  /// The stored bytes of a tensor; they live as long as this object.
  [[nodiscard]] std::span<const std::byte> bytes(const std::string& tensor) const {
    return file_of(tensor).bytes(tensor);
  }
  /// All numbers of a tensor, see SafetensorsFile::get().
  template <class T>
  [[nodiscard]] std::vector<T> get(const std::string& tensor) const {
    return file_of(tensor).template get<T>(tensor);
  }

 private:
  Safetensors() = default;

  [[nodiscard]] static Safetensors open_index(const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    const auto fail = [&](const std::string& what) { throw SafetensorsError(name + ": " + what); };
    const std::map<std::string, std::string> shard_of = read_weight_map(path);
    Safetensors made;
    std::set<std::string> opened;
    for (const auto& [tensor, shard] : shard_of) {
      if (!opened.insert(shard).second) continue;
      if (!std::filesystem::is_regular_file(path.parent_path() / shard)) fail("shard '" + shard + "' is missing");
      made.add(SafetensorsFile::open(path.parent_path() / shard));
      for (const auto& [held, info] : made.files_.back().tensors()) {
        const auto found = shard_of.find(held);
        if (found == shard_of.end()) fail("shard '" + shard + "' has tensor '" + held + "', which the index lacks");
        if (found->second != shard) {
          fail("shard '" + shard + "' has tensor '" + held + "', which the index puts into '" + found->second + "'");
        }
      }
    }
    for (const auto& [tensor, shard] : shard_of) {
      if (!made.contains(tensor)) fail("tensor '" + tensor + "' is not in shard '" + shard + "'");
    }
    return made;
  }

  // Which shard a tensor is in. A shard is a plain file name, so that an index cannot have other files read.
  [[nodiscard]] static std::map<std::string, std::string> read_weight_map(const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    const auto fail = [&](const std::string& what) { throw SafetensorsError(name + ": " + what); };
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) throw SafetensorsError(path.string() + ": no such file");
    if (std::filesystem::file_size(path, error) > max_index_bytes) fail("is too long for an index");
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    nlohmann::json json;
    try {
      json = parse_json(text, 8);
    } catch (const JsonError& wrong) {
      fail(wrong.what());
    }
    if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
      fail("has no weight_map, so it is not an index");
    }
    std::map<std::string, std::string> shard_of;
    for (const auto& [tensor, value] : json["weight_map"].items()) {
      const std::string shard = value.is_string() ? value.template get<std::string>() : std::string();
      const bool plain = !shard.empty() && shard.find_first_of(std::string("/\\:\0", 4)) == shard.npos &&
                         shard.ends_with(".safetensors") && shard.front() != '.';
      if (!plain)
        fail("tensor '" + tensor + "' is in " + value.dump() + ", must be a .safetensors file beside the index");
      shard_of.emplace(tensor, shard);
    }
    if (shard_of.empty()) fail("has an empty weight_map");
    return shard_of;
  }

  void add(SafetensorsFile file) {
    for (const auto& [tensor, info] : file.tensors()) {
      tensors_.emplace(tensor, info);
      file_of_.emplace(tensor, files_.size());
    }
    if (files_.empty()) {
      metadata_ = file.metadata();
    } else {
      std::erase_if(metadata_, [&](const auto& entry) {
        const auto found = file.metadata().find(entry.first);
        return found == file.metadata().end() || found->second != entry.second;
      });
    }
    files_.push_back(std::move(file));
  }

  // Of a tensor that no file has, the first one, which says so.
  [[nodiscard]] const SafetensorsFile& file_of(const std::string& tensor) const {
    const auto found = file_of_.find(tensor);
    return files_[found == file_of_.end() ? 0 : found->second];
  }

  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t> file_of_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace heed_examples
