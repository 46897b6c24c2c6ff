// RecurrentState::restore() of bytes whose checksum is right and whose numbers are not.
#include <vector>

#include <heed/cache/recurrent_state.hpp>

#include "cache/counting_memory.hpp"
#include "fuzz/snapshot_edits.hpp"

namespace {

using heed::Index;
using heed::RecurrentState;
using heed_fuzz::Bytes;

void use(RecurrentState& state, Bytes& in, int moves) {
  for (; moves > 0; --moves) {
    switch (in.pick(0, 5)) {
      case 0: {
        const Index tokens = in.pick(std::max<Index>(0, state.rollback_floor() - 1), state.seen());
        const bool legal = tokens == 0 || tokens >= state.rollback_floor();
        FUZZ_CHECK(state.truncate(tokens).ok() == legal);
        break;
      }
      case 1: {
        auto fork = state.fork();
        FUZZ_CHECK(fork.ok());
        state = *std::move(fork);
        break;
      }
      default: {
        const Index count = in.pick(0, 4);
        auto step = state.begin(heed::NumTokens(count));
        if (!step.ok()) break;
        for (Index layer = 0; layer < state.layers(); ++layer) {
          auto at = step->layer(layer);
          FUZZ_CHECK(at.ok());
          for (Index token = 0; token < count; ++token) {
            if (float* to = at->after(token)) std::copy_n(at->before(), at->width(), to);
          }
        }
        const Index accepted = in.pick(0, count);
        const heed::Status status = step->commit(accepted);
        FUZZ_CHECK(status.ok() || (accepted > 0 && accepted < count), status.message());
      }
    }
  }
  [[maybe_unused]] volatile float read = 0;  // a sanitizer sees every number
  for (Index layer = 0; layer < state.layers(); ++layer) {
    for (const float x : state.state(layer)) read = x;
  }
}

std::vector<std::byte> snapshot(const RecurrentState& state) {
  std::vector<std::byte> bytes(state.snapshot_bytes());
  FUZZ_CHECK(state.snapshot(bytes).ok());
  return bytes;
}

/// Layers, width, tokens seen and states kept are changed, and as many states follow, or nearly.
void edit_fields(std::vector<std::byte>& bytes, const heed::RecurrentOptions& options, Bytes& in) {
  constexpr std::size_t numbers_at = 24, states_at = numbers_at + 5 * sizeof(Index);
  Index numbers[4];
  std::memcpy(numbers, bytes.data() + numbers_at, sizeof numbers);
  for (int edits = int(in.pick(1, 3)); edits > 0; --edits) {
    Index& number = numbers[in.pick(0, 3)];
    number = in.one_in(4) ? in.extreme() : Index(std::uint64_t(number) + std::uint64_t(in.pick(-3, 3)));
  }
  std::memcpy(bytes.data() + numbers_at, numbers, sizeof numbers);
  const Index states = std::clamp<Index>(numbers[3], -1, 40) + 1;
  bytes.resize(states_at + std::size_t(states * options.layers * options.width) * sizeof(float) +
               sizeof(std::uint32_t));
  if (in.one_in(8)) bytes.resize(bytes.size() + std::size_t(in.pick(0, 9)));
  heed_fuzz::close_snapshot(bytes);
}

/// Whatever the bytes say, a state takes what its options ask for.
void check_memory(heed::RecurrentOptions options, const std::vector<std::byte>& bytes) {
  heed_test::CountingMemory memory;
  options.memory = memory.resource();
  FUZZ_CHECK(RecurrentState::create(options).ok());
  const Index empty = memory.peak;
  static_cast<void>(RecurrentState::restore(options, bytes));
  FUZZ_CHECK(memory.peak <= empty);
  FUZZ_CHECK(memory.held == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  const heed::RecurrentOptions options{.layers = in.pick(1, 3),
                                       .width = in.pick(1, 9),
                                       .max_tokens = in.one_in(3) ? in.pick(1, 9) : 0,
                                       .undo_tokens = in.pick(0, 4)};
  auto made = RecurrentState::create(options);
  FUZZ_CHECK(made.ok());
  use(*made, in, int(in.pick(0, 8)));
  std::vector<std::byte> bytes = snapshot(*made);
  const auto same = RecurrentState::restore(options, bytes);
  FUZZ_CHECK(same.ok(), same.status().message());
  FUZZ_CHECK(snapshot(*same) == bytes);

  if (in.one_in(2)) {
    heed_fuzz::edit_snapshot(bytes, in);
  } else {
    edit_fields(bytes, options, in);
  }
  heed::RecurrentOptions other = options;
  if (in.one_in(3)) other.undo_tokens = in.pick(0, 4);
  check_memory(other, bytes);
  auto restored = RecurrentState::restore(other, bytes);
  if (!restored.ok()) return 0;
  FUZZ_CHECK(RecurrentState::restore(other, snapshot(*restored)).ok());
  use(*restored, in, 8);
  return 0;
}
