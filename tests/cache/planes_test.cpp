/// \file
/// Planes of factors in a page: where they lie, what may be read behind them, and that they move with their rows.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <new>

#include <heed/cache/page_layout.hpp>

namespace heed_test::planes_test {
namespace {

using heed::Index;

constexpr Index layers = 3;
constexpr heed::detail::StoredStream streams[] = {{2, 20, 4, 6}, {1, 40, 32, 0}, {3, 16, 16, 4}};

/// A page in memory that was never written.
struct FreshPage {
  explicit FreshPage(Index bytes)
      : data(static_cast<std::byte*>(::operator new(std::size_t(bytes), std::align_val_t(64)))) {
    std::memset(data, 0xA5, std::size_t(bytes));
    page.data = data;
  }
  FreshPage(const FreshPage&) = delete;
  FreshPage& operator=(const FreshPage&) = delete;
  ~FreshPage() { ::operator delete(data, std::align_val_t(64)); }
  std::byte* data;
  heed::Page page;
};

/// body(layer, stream, head, slot) for every row of a page.
template <class Body>
void for_rows(Index tokens, const Body& body) {
  for (Index layer = 0; layer < layers; ++layer) {
    for (int s = 0; s < 3; ++s) {
      for (Index head = 0; head < streams[s].heads; ++head) {
        for (Index slot = 0; slot < tokens; ++slot) body(layer, s, head, slot);
      }
    }
  }
}

TEST(Planes, RowsAndFactorsLieApartAndMoveTogether) {
  for (const Index tokens : {1, 3, 40, 100}) {
    const auto made = heed::detail::PageLayout::create(layers, streams, tokens);
    ASSERT_TRUE(made.ok());
    const heed::detail::PageLayout& layout = *made;
    FreshPage one(layout.bytes()), two(layout.bytes());
    for_rows(tokens, [&](Index layer, int s, Index head, Index slot) {
      const std::byte* const row = layout.row(&one.page, layer, s, head, slot);
      ASSERT_EQ((row - one.data) % streams[s].alignment, 0);
      const heed::RowRun run = layout.row_run(&one.page, layer, s, head, slot, 1);
      ASSERT_EQ(run.data, row);
      ASSERT_EQ(run.factors != nullptr, streams[s].factor_bytes > 0);
      ASSERT_LE(run.data + run.readable_bytes, one.data + layout.bytes());
      for (Index i = 0; i < run.readable_bytes; ++i) ASSERT_NE(run.data[i], std::byte{0xA5}) << "behind a row";
      for (Index i = 0; run.factors != nullptr && i < heed::detail::read_slack; ++i) {
        ASSERT_NE(run.factors[i], std::byte{0xA5}) << "behind factors";
      }
    });
    for (const bool writes : {true, false}) {
      int number = 0;
      for_rows(tokens, [&](Index layer, int s, Index head, Index slot) {
        std::byte* const row = layout.row(&one.page, layer, s, head, slot);
        std::byte* const factors = layout.factors(&one.page, layer, s, head, slot);
        const auto visit = [&](std::byte& at, int value) {
          if (writes) at = std::byte(value & 255);
          ASSERT_EQ(at, std::byte(value & 255)) << "overwritten by another row";
        };
        ++number;
        for (int i = 0; i < streams[s].row_bytes; ++i) visit(row[i], number * 7 + i);
        for (int i = 0; i < streams[s].factor_bytes; ++i) visit(factors[i], number * 11 + i);
      });
    }
    layout.copy(&one.page, 0, &two.page, 0, tokens);
    for_rows(tokens, [&](Index layer, int s, Index head, Index slot) {
      const heed::RowRun a = layout.row_run(&one.page, layer, s, head, slot, 1);
      const heed::RowRun b = layout.row_run(&two.page, layer, s, head, slot, 1);
      ASSERT_EQ(std::memcmp(a.data, b.data, std::size_t(streams[s].row_bytes)), 0);
      if (a.factors == nullptr) return;
      ASSERT_EQ(std::memcmp(a.factors, b.factors, std::size_t(streams[s].factor_bytes)), 0);
    });
  }
}

}  // namespace
}  // namespace heed_test::planes_test
