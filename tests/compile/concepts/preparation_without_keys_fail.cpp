// expect: RowPreparation.*keys
#include "compile/concepts/minimal.hpp"

struct NoKeys : minimal::Preparation {
  void keys() const;
};
struct Prepared : minimal::Policy {
  NoKeys preparation() const { return {}; }
};
heed::Status attend() { return minimal::attend<minimal::Backend, Prepared>(); }
