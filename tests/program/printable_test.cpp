// What a program prints of text that may come from anywhere.
#include "program/printable.hpp"

#include <gtest/gtest.h>

namespace heed_test::printable_test {
namespace {

using heed_examples::printable;

TEST(Printable, TextInUtf8IsItself) {
  for (const std::string text :
       {"", "plain ASCII ~ 123", "käng, naïve", "Ελληνικά", "日本語", "🙂 and more", "\u07FF\u0800\uFFFD"}) {
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, WhatMovesTheTerminalIsEscaped) {
  EXPECT_EQ(printable("a\nb"), "a\\nb");
  EXPECT_EQ(printable("\x1b[2J\x07\x7f\t"), "\\x1b[2J\\x07\\x7f\\x09");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("\u0085"), "\\xc2\\x85");       // C1: next line
  EXPECT_EQ(printable("\u202E"), "\\xe2\\x80\\xae");  // right to left
  EXPECT_EQ(printable("\u2066\uFEFF"), "\\xe2\\x81\\xa6\\xef\\xbb\\xbf");
}

TEST(Printable, WhatIsNoUtf8IsEscapedByteByByte) {
  EXPECT_EQ(printable("\xff"), "\\xff");
  EXPECT_EQ(printable("a\xc3"), "a\\xc3");                           // cut off
  EXPECT_EQ(printable("\xc3z"), "\\xc3z");                           // no continuation
  EXPECT_EQ(printable("\x80\xbf"), "\\x80\\xbf");                    // continuation alone
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");           // overlong
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(printable("\xf0\x82\x82\xac"), "\\xf0\\x82\\x82\\xac");  // overlong
}

}  // namespace
}  // namespace heed_test::printable_test
