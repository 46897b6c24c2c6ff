/// \file
/// Checks of a policy's layout. The kernel and the caches make them for every policy, also for one written elsewhere.
#pragma once

#include <heed/checked.hpp>
#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::detail {

/// invalid_argument unless `view` lies inside a row of a stream that exists, that the policy names, and that has one
/// head or num_kv_heads heads.
inline Status validate_view(const char* name, const AttentionLayout& layout, const View& view, int named_stream) {
  if (view.stream != named_stream || view.stream < 0 || view.stream >= layout.num_streams) {
    return fail(StatusCode::invalid_argument, "layout: ", name, ".stream is ", view.stream, ", must be the policy's ",
                name, "_stream ", named_stream, " and less than num_streams ", layout.num_streams);
  }
  const StreamShape shape = layout.streams[std::size_t(view.stream)];
  if (view.offset < 0 || view.width < 1 || view.width > shape.width - view.offset) {
    return fail(StatusCode::invalid_argument, "layout: ", name, " is ", view.width, " numbers from ", view.offset,
                " of a row of ", shape.width);
  }
  if (shape.num_heads != 1 && shape.num_heads != layout.num_kv_heads) {
    return fail(StatusCode::invalid_argument, "layout: the ", name, " stream has ", shape.num_heads,
                " heads, must have 1 or num_kv_heads ", layout.num_kv_heads);
  }
  return {};
}

/// invalid_argument unless every size is within its limit. The kernel and the caches multiply them without asking
/// again.
inline Status validate_layout(const AttentionLayout& layout, int key_stream, int value_stream) {
  Status status = check_range("layout: num_streams", layout.num_streams, 1, AttentionLayout::max_streams);
  if (status.ok()) status = check_range("layout: num_heads", layout.num_heads, 1, most_query_heads);
  if (status.ok()) status = check_range("layout: num_kv_heads", layout.num_kv_heads, 1, most_query_heads);
  if (status.ok() && layout.num_heads % layout.num_kv_heads != 0) {
    status = fail(StatusCode::invalid_argument, "layout: num_kv_heads is ", layout.num_kv_heads,
                  ", must divide num_heads ", layout.num_heads);
  }
  if (status.ok()) status = check_range("layout: key_width", layout.key_width, 1, most_width);
  if (status.ok()) status = check_range("layout: value_width", layout.value_width, 1, most_width);
  for (int s = 0; status.ok() && s < layout.num_streams; ++s) {
    const StreamShape shape = layout.streams[std::size_t(s)];
    status = check_range("layout: num_heads of a stream", shape.num_heads, 1, most_heads);
    if (status.ok()) status = check_range("layout: width of a stream", shape.width, 1, most_width);
  }
  if (status.ok()) status = validate_view("key", layout, layout.key, key_stream);
  if (status.ok()) status = validate_view("value", layout, layout.value, value_stream);
  return status;
}

}  // namespace heed::inline HEED_ABI::detail
