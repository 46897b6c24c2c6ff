// The safetensors reader on any bytes: it throws SafetensorsError or every tensor it names can be read.
#include <vector>

#include "fuzz/bytes.hpp"
#include "readers/safetensors.hpp"

namespace {

std::vector<std::byte> file(heed_fuzz::Bytes& in) {
  // Half of the inputs get a header length that fits, so that the JSON is reached.
  const bool fits = in.one_in(2);
  const auto data_bytes = std::size_t(in.number<std::uint8_t>());
  const std::span<const std::uint8_t> rest = in.rest();
  std::vector<std::byte> bytes(rest.size() + (fits ? 8 : 0));
  if (fits) {
    const std::uint64_t header = rest.size() - std::min(rest.size(), data_bytes);
    std::memcpy(bytes.data(), &header, sizeof header);
  }
  if (!rest.empty()) std::memcpy(bytes.data() + (fits ? 8 : 0), rest.data(), rest.size());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  heed_fuzz::Bytes in(data, size);
  try {
    const auto opened = heed_examples::Safetensors::parse(file(in), "fuzzed");
    for (const auto& [name, info] : opened.tensors()) {
      try {
        [[maybe_unused]] volatile std::byte read{};  // a sanitizer sees every byte
        for (const std::byte b : opened.bytes(name)) read = b;
        FUZZ_CHECK(info.size() == 0 || std::int64_t(opened.get<float>(name).size()) == info.size());
      } catch (const heed_examples::SafetensorsError&) {  // a type that is no float
      }
    }
    for (const auto& [key, value] : opened.metadata()) FUZZ_CHECK(key.size() + value.size() <= size);
  } catch (const heed_examples::SafetensorsError& error) {
    FUZZ_CHECK(error.what()[0] != '\0');
  }
  return 0;
}
