// KeyValueSource: what ships, and the least a user writes.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert(heed::KeyValueSource<heed::StridedSource<heed::F32>>);
static_assert(heed::KeyValueSource<heed::StridedSource<heed::Bf16, heed::F16>>);
static_assert(heed::KeyValueSource<heed::LayerKeys<heed::F32, heed::F16>>);
static_assert(heed::KeyValueSource<heed::KvCache<heed::Mqa, heed::Bf16>::Keys>);
static_assert(heed::KeyValueSource<heed::KvCache<heed::SharedRow, heed::F16, heed::F32>::Keys>);
static_assert(heed::KeyValueSource<minimal::Source>);

// A cache is no source: its layers are.
static_assert(!heed::KeyValueSource<heed::KvCache<heed::Gqa, heed::F32>>);

heed::Status attend() { return minimal::attend<minimal::Backend, minimal::Policy, minimal::Source>(); }
