// Executor: what ships, and the least a user writes.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert(heed::Executor<heed::SerialExecutor>);
static_assert(heed::Executor<heed::ThreadPool>);
#if defined(_OPENMP)
static_assert(heed::Executor<heed::OpenMpExecutor>);
#endif

static_assert(heed::Executor<minimal::Executor>);
heed::Status attend() {
  return minimal::attend<minimal::Backend, minimal::Policy, minimal::Source, minimal::Mask, minimal::Executor>();
}
