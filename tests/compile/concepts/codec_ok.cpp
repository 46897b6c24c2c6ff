// Codec: what ships, and the least a user writes. It is enough for every backend.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert([] {
  bool all = true;
  heed::Codecs::for_each([&]<class C>() { all = all && heed::Codec<C>; });
  return all;
}());

static_assert(heed::Codec<minimal::Codec>);

struct Source : minimal::Source {
  using KeyCodec = minimal::Codec;
  using ValueCodec = minimal::Codec;
};
heed::Status attend() { return minimal::attend<minimal::Backend, minimal::Policy, Source>(); }
