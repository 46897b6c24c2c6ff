// expect: Math.*accumulate_rows
#include "compile/concepts/minimal.hpp"

/// Reads packed values only.
struct Wrong : minimal::Math {
  template <class B>
  struct On : minimal::Math::On<B> {
    static void accumulate_rows();
  };
};
heed::Status attend() {
  using namespace minimal;
  return minimal::attend<minimal::Backend, Policy, Source, Mask, Executor, Wrong>();
}
