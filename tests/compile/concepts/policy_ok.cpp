// AttentionPolicy, HeadMap and RowPreparation: what ships, and the least a user writes.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert(heed::AttentionPolicy<heed::Mha>);
static_assert(heed::AttentionPolicy<heed::Gqa>);
static_assert(heed::AttentionPolicy<heed::Mqa>);
static_assert(heed::AttentionPolicy<heed::SharedRow>);
static_assert(heed::AttentionPolicy<heed::RotatedKeys<heed::Gqa>>);
static_assert(heed::RowPreparation<heed::KeyRotation>);
static_assert(!heed::RowPreparation<heed::Identity>);
static_assert(!heed::HeadMap<heed::Identity>);

static_assert(heed::AttentionPolicy<minimal::Policy>);
static_assert(heed::HeadMap<minimal::Map>);
static_assert(heed::RowPreparation<minimal::Preparation>);

struct Mapped : minimal::Policy {
  minimal::Map query_map() const { return {}; }
  minimal::Map output_map() const { return {}; }
};
struct Prepared : minimal::Policy {
  minimal::Preparation preparation() const { return {}; }
};

heed::Status plain() { return minimal::attend<minimal::Backend, minimal::Policy>(); }
heed::Status mapped() { return minimal::attend<minimal::Backend, Mapped>(); }
heed::Status prepared() { return minimal::attend<minimal::Backend, Prepared>(); }
