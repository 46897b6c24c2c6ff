// expect: AttentionPolicy.*query_map
#include "compile/concepts/minimal.hpp"

struct NoApply : minimal::Map {
  void apply() const;
};
struct Mapped : minimal::Policy {
  NoApply query_map() const { return {}; }
};
heed::Status attend() { return minimal::attend<minimal::Backend, Mapped>(); }
