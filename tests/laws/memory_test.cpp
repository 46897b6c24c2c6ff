// What the kernel reads and writes: huge strides, nothing beyond the outputs, and exactly the promised workspace.
#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::memory_test {
namespace {

class Memory : public Laws {};
HEED_FOR_ALL_KERNELS(Memory);

/// Address space that costs nothing until it is touched.
class Sparse {
 public:
  explicit Sparse(Index bytes) : size_(std::size_t(bytes)) {
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  ~Sparse() {
    if (ok()) munmap(memory_, size_);
  }
  [[nodiscard]] bool ok() const { return memory_ != MAP_FAILED; }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_); }

 private:
  std::size_t size_;
  void* memory_ = nullptr;
};

/// Rows or heads more than 2^31 elements apart: 32-bit offsets would read other memory.
TEST_P(Memory, StridesBeyond31Bits) {
  const Problem p = gaussian({.heads = 2, .kv_heads = 2, .key_dim = 16, .value_dim = 16}, 2, 2, 1);
  const Output want = run(subject(), p);
  const auto keys = subject().storage.encode_keys(p.k), values = subject().storage.encode_values(p.v);
  for (const bool tokens_apart : {true, false}) {
    const auto scatter = [&](const std::vector<std::byte>& rows, const Sparse& memory) {
      const Index row = Index(rows.size()) / 4, far = (Index{1} << 31) * (row / 16) + 4096, near = 3 * row;
      const heed::StridedStream stream{memory.data(), tokens_apart ? far : near, tokens_apart ? near : far, row};
      for (Index t = 0; t < 2; ++t) {
        for (Index h = 0; h < 2; ++h) {
          std::memcpy(memory.data() + t * stream.token_stride_bytes + h * stream.head_stride_bytes,
                      rows.data() + (t * 2 + h) * row, std::size_t(row));
        }
      }
      return stream;
    };
    const Sparse key_memory((Index{1} << 33) + 65536), value_memory((Index{1} << 33) + 65536);
    if (!key_memory.ok() || !value_memory.ok()) GTEST_SKIP() << "the system gives no 16 GiB of address space";
    const auto source = subject().storage.strided(2, scatter(keys, key_memory), scatter(values, value_memory), 0);
    EXPECT_TRUE(want == run(subject(), p, *source)) << tokens_apart;
  }
}

/// Numbers around the outputs stay as they were.
TEST_P(Memory, SentinelsAroundOutputs) {
  oracle::Random random(2);
  for (int i = 0; i < 40; ++i) {
    const AttentionShape shape{
        .heads = 6, .kv_heads = 3, .key_dim = 1 + random.below(40), .value_dim = 1 + random.below(80)};
    const Index queries = random.below(20), threads = 1 + random.below(3);
    const Problem p = gaussian(shape, queries, random.below(600), 3);
    const Output want = run(subject(), p);
    constexpr std::size_t margin = 64;
    const float sentinel = 123.25f;
    std::vector<float> out(want.out.size() + 2 * margin, sentinel), lse(want.lse.size() + 2 * margin, sentinel);
    const auto cache = filled(subject(), p);
    const auto keys = cache->keys();
    heed::Workspace workspace;
    const Call call{keys.get(), p.mask.ref(), p.q, std::span(out).subspan(margin, want.out.size()),
                    std::span(lse).subspan(margin, want.lse.size())};
    ASSERT_TRUE(subject().attend(p.shape, {&call, 1}, workspace, workers(threads), {}).ok());
    const auto framed = [&](std::vector<float> inner) {
      inner.insert(inner.begin(), margin, sentinel);
      inner.insert(inner.end(), margin, sentinel);
      return inner;
    };
    EXPECT_TRUE(out == framed(want.out)) << p;
    EXPECT_TRUE(lse == framed(want.lse)) << p;
  }
}

/// workspace_bytes() suffices for that call and every smaller one; one byte less is refused and nothing is written.
TEST_P(Memory, WorkspaceBytesAreExact) {
  oracle::Random random(3);
  for (int i = 0; i < (slow() ? 12 : 40); ++i) {
    const Problem p = random_problem(random, mechanisms(), 70, 2000, 4);
    const Index threads = std::vector<Index>{1, 2, 3, 7}[std::size_t(random.below(4))];
    const Output want = run(subject(), p);
    const auto cache = filled(subject(), p);
    const auto keys = cache->keys();
    const auto bytes = subject().storage.workspace_bytes(subject().kernel, p.shape, p.queries, p.keys, threads);
    ASSERT_TRUE(bytes.ok());
    // As the caller's memory, aligned and not, with sentinels behind it.
    const std::size_t lines = *bytes / 64 + 3, aligned = *bytes - heed::Workspace::alignment;
    struct alignas(64) Line {
      std::byte bytes[64];
    };
    std::vector<Line> memory(lines);
    std::byte* const start = memory[0].bytes;
    std::memset(start, 0x5a, lines * 64);
    Output got{std::vector<float>(want.out.size(), nan), std::vector<float>(want.lse.size(), nan)};
    const Output untouched = got;
    const Call call{keys.get(), p.mask.ref(), p.q, got.out, got.lse};
    heed::Workspace less(std::span(start, aligned - 1));
    const heed::Status refused = subject().attend(p.shape, {&call, 1}, less, workers(threads), {});
    EXPECT_EQ(refused.code(), heed::StatusCode::out_of_memory) << p;
    EXPECT_NE(refused.message().find(std::to_string(aligned - 1)), std::string::npos) << refused.message();
    EXPECT_NE(refused.message().find(std::to_string(aligned)), std::string::npos) << refused.message();
    EXPECT_TRUE(got == untouched) << p;

    const std::size_t shift = std::size_t(random.below(heed::Workspace::alignment));
    heed::Workspace enough(std::span(start + shift, *bytes));
    ASSERT_TRUE(subject().attend(p.shape, {&call, 1}, enough, workers(threads), {}).ok()) << p;
    EXPECT_TRUE(got == want) << p;
    for (std::size_t b = shift + *bytes; b < lines * 64; ++b) ASSERT_EQ(int(start[b]), 0x5a) << p;

    const Problem smaller = gaussian(p.shape, random.below(p.queries + 1), random.below(p.keys + 1), 5);
    const auto smaller_cache = filled(subject(), smaller);
    const auto smaller_keys = smaller_cache->keys();
    std::vector<float> out(std::size_t(smaller.queries * smaller.out_row()));
    const Call smaller_call{smaller_keys.get(), smaller.mask.ref(), smaller.q, out};
    for (Index t = 1; t <= threads; ++t) {
      EXPECT_TRUE(subject().attend(smaller.shape, {&smaller_call, 1}, enough, workers(t), {}).ok()) << smaller;
    }
  }
}

/// Dirty scratch of another call changes nothing.
TEST_P(Memory, WorkspaceContentsMeanNothing) {
  heed::Workspace workspace;
  ASSERT_TRUE(workspace.reserve(8 << 20).ok());
  for (const int fill : {0x00, 0xff, 0x7f}) {
    for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 1}, {3, 300}, {40, 600}}) {
      Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 20, .value_dim = 20}, queries, keys, 6);
      p.mask = keys == 600 ? holes(1) : causal();
      const Output want = run(subject(), p);
      std::memset(workspace.data(), fill, workspace.size());
      Output got{std::vector<float>(want.out.size()), std::vector<float>(want.lse.size())};
      const auto cache = filled(subject(), p);
      const auto rows = cache->keys();
      const Call call{rows.get(), p.mask.ref(), p.q, got.out, got.lse};
      ASSERT_TRUE(subject().attend(p.shape, {&call, 1}, workspace, workers(2), {}).ok());
      EXPECT_TRUE(want == got) << p << " fill " << fill;
    }
  }
}

}  // namespace
}  // namespace heed_test::memory_test
