/// \file
/// What a cache is made from, checked before anything is allocated.
#pragma once

#include <array>

#include <heed/cache/token_index.hpp>

namespace heed::inline HEED_ABI {

class PagePool;

struct CacheOptions {
  Index layers = 1;
  Index capacity = 0;    ///< tokens to make room for at once
  Index max_tokens = 0;  ///< the cache refuses to hold more, a step's included; 0 is no limit
  Positions positions = Positions::absolute;
  Index undo_tokens = 0;       ///< eviction waits so many tokens, so that truncate() can always go back so far
  Index page_tokens = 0;       ///< tokens of a page, in all layers of a group; 0: see automatic_page_tokens()
  std::uint64_t model_id = 0;  ///< a hash of weights and RoPE, of the caller's: snapshots of another model are refused
  MemoryResource memory = default_memory();
  PagePool* pool = nullptr;  ///< where pages come from, shared with other caches; null: an own one, of `memory`
};

/// Where nothing is evicted, long runs of rows read fastest: as many tokens as `capacity`, at most 1024, and 256 if it is
/// not known (MHA, 128 bf16 numbers a head, 32,768 keys: 64 tokens a page read at 65 % of one block's speed, 256 at 90 %,
/// 1024 at 97 %). Rules that evict have 128: what they hold of half-used pages counts, too.
[[nodiscard]] inline Index automatic_page_tokens(const CacheOptions& options, const AnyRule& rule) {
  if (!rule.same_as(Causal{})) return 128;
  return options.capacity > 0 ? std::min<Index>(options.capacity, 1024) : 256;
}

namespace detail {

// Beyond any memory, and small enough that sizes can be multiplied before they are compared with it.
inline constexpr Index most_tokens = Index{1} << 48;
inline constexpr Index most_undo = Index{1} << 20;
inline constexpr Index most_layers = Index{1} << 16;
inline constexpr Index most_heads = Index{1} << 16;
inline constexpr Index most_width = Index{1} << 24;

inline Status validate_options(const CacheOptions& options) {
  const Index most = options.max_tokens > 0 ? options.max_tokens : most_tokens;
  Status status = check_range("layers", options.layers, 1, most_layers);
  if (status.ok()) status = check_range("max_tokens", options.max_tokens, 0, most_tokens);
  if (status.ok()) status = check_range("capacity", options.capacity, 0, most);
  if (status.ok()) status = check_range("undo_tokens", options.undo_tokens, 0, most_undo);
  if (status.ok()) status = check_range("page_tokens", options.page_tokens, 0, most_tokens);
  if (status.ok()) status = check_memory(options.memory);
  return status;
}

/// A view must lie inside a stream that exists, is the one the policy names, and has a row for every KV head.
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

inline Status validate_layout(const AttentionLayout& layout, int key_stream, int value_stream) {
  Status status = check_range("layout: num_streams", layout.num_streams, 1, AttentionLayout::max_streams);
  for (int s = 0; status.ok() && s < layout.num_streams; ++s) {
    const StreamShape shape = layout.streams[std::size_t(s)];
    status = check_range("layout: num_heads of a stream", shape.num_heads, 1, most_heads);
    if (status.ok()) status = check_range("layout: width of a stream", shape.width, 1, most_width);
  }
  if (status.ok()) status = validate_view("key", layout, layout.key, key_stream);
  if (status.ok()) status = validate_view("value", layout, layout.value, value_stream);
  return status;
}

}  // namespace detail

}  // namespace heed::inline HEED_ABI
