// expect: Codec.*KeyCodec|KeyCodec.*Codec
#include "compile/concepts/minimal.hpp"

struct StoresDoubles : minimal::Source {
  using KeyCodec = double;
};
heed::Status attend() { return minimal::attend<minimal::Backend, minimal::Policy, StoresDoubles>(); }
