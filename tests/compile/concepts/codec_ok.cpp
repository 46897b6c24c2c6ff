// Codec: what ships, and the least a user writes. It is enough for every backend.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert(heed::Codec<heed::F32>);
static_assert(heed::Codec<heed::Bf16>);
static_assert(heed::Codec<heed::F16>);

static_assert(heed::Codec<minimal::Codec>);

struct Source : minimal::Source {
  using KeyCodec = minimal::Codec;
  using ValueCodec = minimal::Codec;
};
heed::Status attend() { return minimal::attend<minimal::Backend, minimal::Policy, Source>(); }
