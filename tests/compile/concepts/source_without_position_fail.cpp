// expect: KeyValueSource.*position
#include "compile/concepts/minimal.hpp"

struct NoPosition : minimal::Source {
  void position() const;
};
heed::Status attend() { return minimal::attend<minimal::Backend, minimal::Policy, NoPosition>(); }
