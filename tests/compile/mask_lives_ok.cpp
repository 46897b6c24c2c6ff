// Masks that are temporaries: small ones are copied, and a large one lives as long as the call.
#include <vector>

#include <heed/heed.hpp>

using Cache = heed::KvCache<heed::Gqa, heed::F32>;

struct Windows {
  std::vector<heed::Index> of;
  bool visible(heed::Index query, heed::Index key) const {
    return key <= query && query - key < of[static_cast<std::size_t>(query)];
  }
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
};

/// Small, trivially copyable, and yet not to be copied.
struct Unique {
  heed::Index window = 4;
  explicit Unique(heed::Index size) : window(size) {}
  Unique(Unique&&) = default;
  Unique(const Unique&) = delete;
  bool visible(heed::Index query, heed::Index key) const { return key <= query && query - key < window; }
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
};
static_assert(std::is_trivially_copyable_v<Unique> && !heed::MaskRef::copies<Unique>);

heed::Sequence<Cache::Keys> unique(const Cache::Keys& keys, const Unique& mask) {
  return {.keys = &keys, .mask = mask, .q = {}, .out = {}};
}
heed::Sequence<Cache::Keys> small(const Cache::Keys& keys) {
  return {.keys = &keys, .mask = heed::SlidingWindow{4}, .q = {}, .out = {}};
}
heed::Sequence<Cache::Keys> large(const Cache::Keys& keys, const Windows& mask) {
  return {.keys = &keys, .mask = mask, .q = {}, .out = {}};
}
heed::Status call(const Cache::Keys& keys, std::span<const float> q, std::span<float> out) {
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::Status status =
      heed::attend<heed::Scalar>(heed::Gqa{}, q, keys, heed::SlidingWindow{4}, out, workspace, executor);
  if (status.ok()) {
    status = heed::attend<heed::Scalar>(heed::Gqa{}, q, keys, Windows{{1, 2, 3}}, out, workspace, executor);
  }
  if (status.ok()) {
    status = heed::attend_mla<heed::Scalar>(heed::Mla{}, heed::MlaForm::absorbed, q, keys, Windows{{1}}, out, workspace,
                                            executor);
  }
  if (status.ok()) {
    status = heed::attend<heed::Scalar>(heed::Gqa{}, q, keys, Unique{3}, out, workspace, executor);
  }
  return status;
}
