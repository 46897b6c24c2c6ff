// expect: Retention.*describe
#include <heed/cache/kv_cache.hpp>

#include "compile/concepts/minimal.hpp"

struct DescribeHidden : minimal::Rule {
  void describe();
};
heed::AnyRule rule{DescribeHidden{}};
