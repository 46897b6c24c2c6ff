// expect: RowReader
#include <heed/cache/strided.hpp>

#include "compile/concepts/minimal.hpp"

// A codec that no register of 16 floats can read.
struct OneWidth : minimal::Codec {
  template <class V>
    requires(V::width != 16)
  struct Reader : minimal::Codec::Reader<V> {};
};
heed::StridedSource<OneWidth>* source = nullptr;
