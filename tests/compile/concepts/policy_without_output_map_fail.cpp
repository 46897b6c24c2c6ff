// expect: AttentionPolicy.*output_map
#include "compile/concepts/minimal.hpp"

struct NoOutputMap : minimal::Policy {
  void output_map() const = delete;
};
heed::Status attend() { return minimal::attend<minimal::Backend, NoOutputMap>(); }
