/// \file
/// Checks that every layer makes of a call's arguments.
#pragma once

#include <initializer_list>
#include <utility>

#include <heed/layer/projection.hpp>
#include <heed/moved.hpp>

namespace heed::inline HEED_ABI::detail {

/// invalid_argument naming the argument unless `numbers` is tokens * width.
inline Status check_rows(const char* name, std::size_t numbers, Index tokens, Index width) {
  const Count wanted = Count(tokens) * width;
  if (has_size(numbers, wanted)) return {};
  return fail(StatusCode::invalid_argument, name, " has ", numbers, " numbers, must have ", wanted, " for ", tokens,
              " tokens");
}

/// Projects rows [tokens][in] to y [tokens][out]. invalid_argument naming `name` or y for a wrong size, or wrong_state
/// naming `layer` if it was moved from.
template <SimdBackend Backend, Executor E>
Status apply_checked(const char* layer, const Projection& projection, const char* name, std::span<const float> rows,
                     std::span<float> y, E& executor) {
  if (Status status = check_made(layer, projection.in()); !status.ok()) return status;
  const Index tokens = Index(rows.size()) / projection.in();
  Status status = check_rows(name, rows.size(), tokens, projection.in());
  if (status.ok()) status = check_rows("y", y.size(), tokens, projection.out());
  if (status.ok()) projection.template apply<Backend>(tokens, rows.data(), y.data(), executor);
  return status;
}

/// invalid_argument unless `value` is a width that a layer may multiply: 1 .. most_width.
inline Status check_width(const char* name, Index value) { return check_range(name, value, 1, most_width); }

/// invalid_argument unless `workers` is in 1 .. most_workers. Each worker has scratch of its own.
inline Status check_workers(Index workers) { return check_range("workers", workers, 1, most_workers); }

/// Moves the value of `made` to `to`. Returns its Status: not ok if there is no value.
template <class T, class To>
Status take(To& to, Result<T> made) {
  if (made.ok()) to = *std::move(made);
  return made.status();
}

/// The first failure; ok if there is none.
inline Status first_failure(std::initializer_list<Status> all) {
  for (const Status& status : all) {
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::detail
