/// \file
/// A policy that states a width twice must state it alike.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/compiled/scalar.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>

namespace heed_test::widths_test {
namespace {

using heed::Index;

/// Grouped-query attention whose layout claims other widths than its views have.
struct Claims {
  Index key_width = 4;
  Index value_width = 4;
  static constexpr int key_stream = 0;
  static constexpr int value_stream = 1;
  [[nodiscard]] heed::Status validate() const { return {}; }
  [[nodiscard]] heed::AttentionLayout layout() const {
    heed::AttentionLayout made = heed::Mqa{.num_heads = 1, .head_dim = 4, .scale = 1}.layout();
    made.key_width = key_width;
    made.value_width = value_width;
    return made;
  }
  [[nodiscard]] heed::Identity query_map() const { return {}; }
  [[nodiscard]] heed::Identity output_map() const { return {}; }
  [[nodiscard]] heed::Identity preparation() const { return {}; }
};

heed::Status attend(const Claims& policy) {
  const std::vector<float> rows(3 * 4, 0.5f), q(static_cast<std::size_t>(policy.key_width), 1.0f);
  std::vector<float> out(static_cast<std::size_t>(policy.value_width));
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 16, 16, 16};
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  return heed::attend<heed::Scalar>(policy, q, heed::StridedSource<heed::F32>(3, stream, stream), heed::Causal{}, out,
                                    workspace, serial);
}

TEST(PolicyWidths, MustBeThoseOfTheViews) {
  EXPECT_TRUE(attend({}).ok());
  EXPECT_NE(attend({.key_width = 5}).message().find("key_width is 5, must be the width of its key view, 4"),
            std::string::npos)
      << attend({.key_width = 5}).message();
  EXPECT_EQ(attend({.value_width = 3}).code(), heed::StatusCode::invalid_argument);
}

}  // namespace
}  // namespace heed_test::widths_test
