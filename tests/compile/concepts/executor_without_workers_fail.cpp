// expect: Executor.*workers
#include "compile/concepts/minimal.hpp"

struct NoWorkers : minimal::Executor {
  void workers() const = delete;
};
heed::Status attend() {
  return minimal::attend<minimal::Backend, minimal::Policy, minimal::Source, minimal::Mask, NoWorkers>();
}
