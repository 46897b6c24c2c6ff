// expect: Executor.*parallel_for
#include "compile/concepts/minimal.hpp"

struct TasksOnly : minimal::Executor {
  void parallel_for(heed::Index) {}
};
heed::Status attend() {
  return minimal::attend<minimal::Backend, minimal::Policy, minimal::Source, minimal::Mask, TasksOnly>();
}
