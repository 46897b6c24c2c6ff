/// \file
/// A table of numbers that prints as text and as JSON, and counts the published figures in it that come out.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <heed/types.hpp>

namespace heed_examples {

/// A number in two forms, or text. A published figure knows whether it was reproduced.
struct Cell {
  std::string text;
  nlohmann::ordered_json value = nullptr;
  bool published = false;
  bool reproduced = false;
};

[[nodiscard]] inline Cell words(std::string text) {
  Cell cell{.text = std::move(text)};
  cell.value = cell.text;
  return cell;
}

/// 287,834,112
[[nodiscard]] inline Cell count(heed::Index number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ',');
  return {.text = std::move(text), .value = number};
}

/// `number` with so many decimals, and a unit.
[[nodiscard]] inline Cell decimal(double number, int decimals, const char* unit = "") {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f%s", decimals, number, unit);
  return {.text = text, .value = number};
}

/// 0.875 as 87.50 %
[[nodiscard]] inline Cell percent(double fraction, int decimals = 2) {
  Cell cell = decimal(100 * fraction, decimals, " %");
  cell.value = fraction;
  return cell;
}

/// 287,834,112 as 2.88e8, from an integer that was rounded to three digits.
[[nodiscard]] inline std::string scientific(heed::Index rounded) {
  const std::string digits = std::to_string(rounded);
  const std::string first = (digits + "00").substr(0, 3);
  return first.substr(0, 1) + "." + first.substr(1) + "e" + std::to_string(digits.size() - 1);
}

/// A figure as its source prints it, beside what was computed in the same form.
[[nodiscard]] inline Cell printed(const std::string& figure, const std::string& computed) {
  Cell cell = words(figure);
  cell.published = true;
  cell.reproduced = figure == computed;
  if (!cell.reproduced) cell.text += " (!)";
  return cell;
}

struct Table {
  std::string title;
  std::vector<std::string> notes;
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;

  [[nodiscard]] int published() const { return tally(&Cell::published); }
  [[nodiscard]] int reproduced() const { return tally(&Cell::reproduced); }

 private:
  [[nodiscard]] int tally(bool Cell::*flag) const {
    int sum = 0;
    for (const auto& row : rows)
      sum += int(std::count_if(row.begin(), row.end(), [&](const Cell& c) { return c.*flag; }));
    return sum;
  }
};

/// The table as lines: the first column to the left, the others to the right.
[[nodiscard]] inline std::string to_text(const Table& table) {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    std::size_t width = table.columns[c].size();
    for (const auto& row : table.rows) width = std::max(width, row.at(c).text.size());
    widths.push_back(width);
  }
  std::string out = table.title + "\n";
  const auto line = [&](const auto& text_of) {
    std::string one = " ";
    for (std::size_t c = 0; c < widths.size(); ++c) {
      const std::string& text = text_of(c);
      const std::size_t pad = widths[c] - text.size();
      one.append(c == 0 ? 1 : 2 + pad, ' ').append(text).append(c == 0 ? pad : 0, ' ');
    }
    out += one.substr(0, one.find_last_not_of(' ') + 1) + "\n";
  };
  line([&](std::size_t c) -> const std::string& { return table.columns[c]; });
  for (const auto& row : table.rows) line([&](std::size_t c) -> const std::string& { return row[c].text; });
  for (const std::string& note : table.notes) out += "  " + note + "\n";
  return out;
}

[[nodiscard]] inline nlohmann::ordered_json to_json(const Table& table) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& row : table.rows) {
    nlohmann::ordered_json values = nlohmann::ordered_json::array();
    for (const Cell& cell : row) values.push_back(cell.value);
    rows.push_back(std::move(values));
  }
  return {{"title", table.title}, {"notes", table.notes}, {"columns", table.columns}, {"rows", std::move(rows)}};
}

}  // namespace heed_examples
