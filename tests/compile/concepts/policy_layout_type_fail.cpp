// expect: AttentionPolicy.*layout
#include "compile/concepts/minimal.hpp"

struct LayoutIsNumber : minimal::Policy {
  int layout() const { return 16; }
};
heed::Status attend() { return minimal::attend<minimal::Backend, LayoutIsNumber>(); }
