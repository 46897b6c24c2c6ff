/// \file
/// A kernel as a value: what one backend, one pair of codecs and one math make of attend(), as a table of functions.
#pragma once

#include <heed/math/sizes.hpp>
#include <heed/matrix.hpp>
#include <heed/status.hpp>

namespace heed::inline HEED_ABI {

struct AttendOptions;
class Workspace;

namespace detail {
struct ExecutorRef;
struct PlannedCall;
struct PlannedFinish;
struct PolicyRef;
struct PreparedSteps;
struct SequenceList;
struct StepPlan;
}  // namespace detail

/// The loops of one backend over rows of one key codec and one value codec, in one math. It is plain data: a program
/// can choose it at run time, and another unit can compile it (compiled.hpp). kernel<Backend, K, V>() is in math::F32,
/// kernel<Backend, K, V, Math>() in another math. attend(kernel, ...) runs it. A kernel with hooks is another value,
/// kernel<Backend, K, V>(hooks).
///
/// The names are those of the backend, of the codecs and of the math. attend() compares the codecs' names with those of
/// the keys, so two codecs must not have one name.
struct Kernel {
  const char* backend;                           ///< the backend's name
  const char* key_codec;                         ///< name of the key codec
  const char* value_codec;                       ///< name of the value codec
  const char* math;                              ///< name of the math
  MathSizes math_sizes;                          ///< of the math's types
  Linear linear;                                 ///< the backend's matrix product
  void (*run)(const detail::PlannedCall&);       ///< the loops: all tasks of a call
  const detail::PreparedSteps* prepared;         ///< what `run` does only for policies with a preparation
  void (*finish)(const detail::PlannedFinish&);  ///< the merge of partial states
  /// The whole call, from the checks of its arguments on.
  Status (*attend)(const Kernel&, const detail::PolicyRef&, const detail::SequenceList&, Workspace&,
                   detail::ExecutorRef, const AttendOptions&);
  /// One layer of a step that was planned.
  Status (*attend_planned)(const Kernel&, const detail::PolicyRef&, const detail::StepPlan&,
                           const detail::SequenceList&, Workspace&, detail::ExecutorRef, const AttendOptions&);
  void* hooks = nullptr;  ///< the hooks object that the loops call (hooks.hpp), not owned; null: they call none
};

}  // namespace heed::inline HEED_ABI
