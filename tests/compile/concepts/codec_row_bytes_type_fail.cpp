// expect: Codec.*row_bytes
#include <heed/cache/strided.hpp>

#include "compile/concepts/minimal.hpp"

struct RowBytesIsInt : minimal::Codec {
  static int row_bytes(heed::Index width) { return int(width); }
};
heed::StridedSource<RowBytesIsInt>* source = nullptr;
