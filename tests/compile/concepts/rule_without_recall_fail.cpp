// expect: Retention.*recall
#include <heed/cache/kv_cache.hpp>

#include "compile/concepts/minimal.hpp"

struct RecallHidden : minimal::Rule {
  void recall();
};
heed::AnyRule rule{RecallHidden{}};
