/// \file
/// Text that may come from anywhere, made safe for a terminal.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace heed_examples {

/// Length of the UTF-8 character that `text` begins with, and its number; 0 if it begins with none: a stray byte, an
/// overlong form, a surrogate, a number above U+10FFFF.
struct Utf8Character {
  std::size_t length = 0;
  std::uint32_t number = 0;
};

[[nodiscard]] inline Utf8Character utf8_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return std::uint32_t(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return {1, first};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return {};
  std::uint32_t number = first & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    number = number << 6 | (byte(i) & 0x3F);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = number >= 0xD800 && number <= 0xDFFF;
  return number < least[length] || number > 0x10FFFF || surrogate ? Utf8Character{} : Utf8Character{length, number};
}

/// Characters as they are, in UTF-8, and escapes for what is none or moves a terminal's cursor or direction: a model may
/// say whatever it likes, but not to the terminal.
[[nodiscard]] inline std::string printable(std::string_view text) {
  const auto moves = [](std::uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x061C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
  };
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Character c = utf8_character(text.substr(at));
    if (c.length > 0 && !moves(c.number)) {
      out += text.substr(at, c.length);
      at += c.length;
      continue;
    }
    char escaped[8];
    std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned char>(text[at]));
    out += text[at] == '\n' ? "\\n" : escaped;
    ++at;
  }
  return out;
}

}  // namespace heed_examples
