/// \file
/// No PrefetchTable changes a bit: how many chunks a pass has, how far ahead rows are prefetched, and up to how many rows are
/// read in place.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <heed/compiled.hpp>
#include <heed/compiled.hpp>
#include <heed/heed.hpp>

#include "oracle/random.hpp"

namespace heed_test::prefetch_table_test {
namespace {

using heed::Index;

std::vector<heed::PrefetchTable> tables() {
  std::vector<heed::PrefetchTable> all;
  const heed::PrefetchDistance distances[] = {{0, 0}, {64, 0}, {100, 300}, {0, 4096}, {Index{1} << 40, Index{1} << 41}};
  std::size_t turn = 0;
  for (const Index chunks : {1, 2, 3, 16, 100}) {
    for (const Index rows : {0, 1, 3, 8, 20, 1000}) {
      const auto next = [&] { return distances[turn++ * 3 % std::size(distances)]; };
      all.push_back({.keys_of_one = next(),
                     .values_of_one = next(),
                     .keys = next(),
                     .values = next(),
                     .chunks = chunks,
                     .in_place_rows = rows});
      turn += 2;  // so that every place has every distance
    }
  }
  all.push_back({.chunks = -5, .in_place_rows = -5});
  return all;
}

/// Every fifth key is hidden, whole chunks too, and odd queries see less.
struct Gaps {
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key) const {
    return key <= query && key % 5 != 3 && key / 256 % 3 != 1 && (query % 2 == 0 || key % 7 != 0);
  }
};

template <class K, class V>
struct Rows {
  static constexpr Index keys = 1500, heads = 6, kv_heads = 2, width = 40, v_width = 24;
  heed::Gqa policy{
      .num_heads = heads, .num_kv_heads = kv_heads, .head_dim = width, .v_head_dim = v_width, .scale = 0.2f};
  heed::KvCache<heed::Gqa, K, V> cache;

  explicit Rows(const heed::AnyRule& rule)
      : cache(heed::value_or_throw(
            heed::KvCache<heed::Gqa, K, V>::create(policy, {.capacity = keys, .page_tokens = 40}, rule))) {
    oracle::Random random(9);
    std::vector<std::int32_t> ids;
    for (Index i = 0; i < keys; ++i) ids.push_back(std::int32_t(random.below(9)));
    for (Index begin = 0; begin + 40 <= keys; begin += 40) {
      auto step = heed::value_or_throw(cache.begin(std::span(ids).subspan(std::size_t(begin), 40)));
      heed::check(step.write(0, 0, random.gaussians(40 * kv_heads * width)));
      heed::check(step.write(0, 1, random.gaussians(40 * kv_heads * v_width)));
      heed::check(step.commit());
    }
  }
};

template <class K, class V>
void expect_same_bits(const heed::Kernel& kernel, const heed::AnyRule& rule, const heed::MaskRef* mask) {
  using S = Rows<K, V>;
  S rows(rule);
  oracle::Random random(4);
  for (const Index queries : {1, 2, 3, 5, 9, 40}) {
    const std::vector<float> q = random.gaussians(queries * S::heads * S::width);
    std::vector<std::int32_t> ids(std::size_t(queries), 1);
    auto step = heed::value_or_throw(rows.cache.begin(ids));
    heed::check(step.write(0, 0, random.gaussians(queries * S::kv_heads * S::width)));
    heed::check(step.write(0, 1, random.gaussians(queries * S::kv_heads * S::v_width)));
    const auto keys = step.keys(0);
    heed::Workspace workspace;
    const auto pool = heed::value_or_throw(heed::ThreadPool::create(2));
    const auto ask = [&](const heed::AttendOptions& options, auto& executor) {
      std::vector<float> out(std::size_t(queries * S::heads * S::v_width), std::nanf(""));
      const heed::Status status =
          mask != nullptr ? heed::attend(kernel, rows.policy, q, keys, *mask, out, workspace, executor, options)
                          : heed::attend(kernel, rows.policy, q, keys, out, workspace, executor, options);
      EXPECT_TRUE(status.ok()) << status.message();
      return out;
    };
    heed::SerialExecutor serial;
    const heed::PrefetchTable plain;
    const std::vector<float> want = ask({.prefetch = &plain}, serial);
    EXPECT_TRUE(heed::detail::same_bits(want.data(), ask({}, serial).data(), Index(want.size())))
        << "the machine's table";
    const std::vector<heed::PrefetchTable> all = tables();
    const std::size_t stride = kernel.backend == heed::Scalar::name ? 5 : 1;  // its loops prefetch nothing
    for (std::size_t t = 0; t < all.size(); t += stride) {
      const auto got = t % 4 == 3 ? ask({.prefetch = &all[t]}, *pool) : ask({.prefetch = &all[t]}, serial);
      EXPECT_TRUE(heed::detail::same_bits(want.data(), got.data(), Index(want.size())))
          << kernel.backend << " " << kernel.math << " " << rule.name() << " queries " << queries << " table " << t;
    }
  }
}

TEST(PrefetchTable, ChangesNoBit) {
  const Gaps gaps;
  const heed::MaskRef mask = gaps;
  const heed::AnyRule rules[] = {heed::Causal{}, heed::SlidingWindow{700},
                                 heed::SinkWindow{.initial = 300, .window = 400}, heed::Anchors{{2}}};
  heed::Backends::for_each([&]<class Backend>() {
    heed::Maths::for_each([&]<class M>() {
      for (const heed::AnyRule& rule : rules) {
        expect_same_bits<heed::Bf16, heed::Bf16>(heed::kernel<Backend, heed::Bf16, heed::Bf16, M>(), rule, nullptr);
      }
      expect_same_bits<heed::F32, heed::F16>(heed::kernel<Backend, heed::F32, heed::F16, M>(), heed::Causal{}, &mask);
    });
  });
}

}  // namespace
}  // namespace heed_test::prefetch_table_test
