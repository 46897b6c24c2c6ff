// heed_tables prints what it promises.
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "tables/sections.hpp"

namespace heed_test::tables_test {
namespace {

using namespace heed_examples;

TEST(Tables, EveryPublishedFigureComesOut) {
  int published = 0;
  for (const Section& section : all_sections(default_sizes)) {
    for (const Table& table : section.tables) {
      EXPECT_EQ(table.reproduced(), table.published()) << to_text(table);
      published += table.published();
    }
  }
  EXPECT_EQ(published, 96);
}

TEST(Tables, FitInto120Columns) {
  ha::GmhaSizes large = default_sizes;
  large.hidden_size = 16384, large.num_heads = 128, large.latent_heads = 1024;
  for (const Section& section : all_sections(large)) {
    for (const Table& table : section.tables) {
      std::istringstream lines(to_text(table));
      for (std::string line; std::getline(lines, line);) {
        EXPECT_LE(line.size(), 120u) << line;
        EXPECT_TRUE(line.empty() || line.back() != ' ') << line;
      }
    }
  }
}

TEST(Tables, RowsHaveACellForEveryColumn) {
  for (const Section& section : all_sections(default_sizes)) {
    for (const Table& table : section.tables) {
      ASSERT_FALSE(table.rows.empty()) << table.title;
      for (const auto& row : table.rows) EXPECT_EQ(row.size(), table.columns.size()) << table.title;
      const auto json = to_json(table);
      EXPECT_EQ(json["rows"].size(), table.rows.size());
    }
  }
}

TEST(Tables, CellsPrintAsPapersDo) {
  EXPECT_EQ(count(0).text, "0");
  EXPECT_EQ(count(999).text, "999");
  EXPECT_EQ(count(1000).text, "1,000");
  EXPECT_EQ(count(1'151'336'448).text, "1,151,336,448");
  EXPECT_EQ(scientific(288'000'000), "2.88e8");
  EXPECT_EQ(scientific(58'000'000'000), "5.80e10");
  EXPECT_EQ(percent(0.0625).text, "6.25 %");
  EXPECT_EQ(cut_percent_saved(1, 16), "93.7 %");
  EXPECT_EQ(cut_thousands(163'840), "163K");
  EXPECT_EQ(rounded_thousands(24'576), "24.6K");
}

TEST(Tables, AFigureThatDoesNotComeOutIsMarkedAndCounted) {
  const Table table{.title = "t", .notes = {}, .columns = {"a", "b"}, .rows = {{count(1), printed("2", "1")}}};
  EXPECT_EQ(table.published(), 1);
  EXPECT_EQ(table.reproduced(), 0);
  EXPECT_NE(to_text(table).find("2 (!)"), std::string::npos);
}

}  // namespace
}  // namespace heed_test::tables_test
