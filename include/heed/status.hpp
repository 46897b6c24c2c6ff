/// \file
/// How heed reports bad input: a Status or a Result<T> at the core, exceptions as a convenience on top.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#if defined(__cpp_exceptions)
#include <stdexcept>
#endif

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

/// What kind of failure a Status reports.
enum class StatusCode {
  ok,                ///< no failure
  invalid_argument,  ///< a shape, range, type or option is wrong; the message names it and the number
  out_of_range,      ///< an index lies outside what exists
  out_of_memory,     ///< an allocation failed; nothing was changed
  wrong_state,       ///< the call is legal, but not now (a step is open, a layer was not written)
  unsupported,       ///< this combination is refused; the message says why
};

namespace detail {
/// Stands in for a message if there is no memory for it. Short enough for a string that needs no allocation.
inline constexpr const char* no_memory_for_text = "no memory";

/// Calls body(), which makes text. If the C++ heap has no memory for it, `out` becomes no_memory_for_text: so a failure
/// for want of memory can still be reported. Without exceptions the standard library ends the program instead.
template <class Body>
void make_text(std::string& out, const Body& body) noexcept {
#if defined(__cpp_exceptions)
  try {
    body();
  } catch (...) {
    out = no_memory_for_text;
  }
#else
  body();
  static_cast<void>(out);
#endif
}
}  // namespace detail

/// The outcome of an operation that returns no value. A failed operation has changed nothing, unless its own comment
/// says what it changed.
class [[nodiscard]] Status {
 public:
  /// Ok, without a message.
  Status() = default;
  /// A failure; fail() builds the message.
  Status(StatusCode code, std::string message) noexcept : code_(code), message_(std::move(message)) {}
  /// As `other`. The message becomes "no memory" if there is no memory for a copy.
  Status(const Status& other) noexcept : code_(other.code_) {
    detail::make_text(message_, [&] { message_ = other.message_; });
  }
  /// Takes over the message.
  Status(Status&& other) noexcept = default;
  Status& operator=(Status other) noexcept {
    code_ = other.code_;
    message_ = std::move(other.message_);
    return *this;
  }
  ~Status() = default;

  /// true if there was no failure.
  /// \{
  [[nodiscard]] bool ok() const noexcept { return code_ == StatusCode::ok; }
  [[nodiscard]] explicit operator bool() const noexcept { return ok(); }
  /// \}
  /// What kind of failure; StatusCode::ok if there was none.
  [[nodiscard]] StatusCode code() const noexcept { return code_; }
  /// Empty if ok. Else one sentence that names the argument and the number, or "no memory" if there was none for it.
  [[nodiscard]] const std::string& message() const noexcept { return message_; }

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
};

namespace detail {
template <class N>
  requires std::is_integral_v<N>
void append(std::string& out, N number) { out += std::to_string(number); }
/// Appends a decimal that reads back as the same number: 1e-07 is not printed as zero.
template <class N>
  requires std::is_floating_point_v<N>
void append(std::string& out, N number) {
  std::array<char, 64> text;
#if defined(__cpp_lib_to_chars)
  out.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr);
#else
  const int digits = sizeof(N) == sizeof(float) ? 9 : 17;
  out.append(text.data(), std::size_t(std::snprintf(text.data(), text.size(), "%.*g", digits, double(number))));
#endif
}
template <class T>
  requires requires(const T& thing) { thing.text(); }
void append(std::string& out, const T& thing) { out += thing.text(); }

/// One part of a message, by reference. Its type is erased, so that the text of a message is made by code that is
/// compiled once, not once per call of fail().
class Part {
 public:
  template <class P>
  explicit Part(const P& part) noexcept {
    if constexpr (std::is_convertible_v<const P&, std::string_view>) {
      text_ = part;
    } else {
      part_ = &part;
      append_ = [](std::string& out, const void* thing) { append(out, *static_cast<const P*>(thing)); };
    }
    if constexpr (std::is_integral_v<P>) is_one_ = part == P(1);
  }
  [[nodiscard]] bool is_text() const noexcept { return append_ == nullptr; }
  [[nodiscard]] std::string_view text() const noexcept { return text_; }
  /// true if the part is the number 1.
  [[nodiscard]] bool is_one() const noexcept { return is_one_; }
  /// Only if the part is no text.
  void append_to(std::string& out) const { append_(out, part_); }

 private:
  std::string_view text_;
  const void* part_ = nullptr;
  void (*append_)(std::string&, const void*) = nullptr;
  bool is_one_ = false;
};

/// Appends `text`. If the number 1 stands before it, a noun at its beginning is put into the singular: "1 token", not
/// "1 tokens".
inline void append_text(std::string& out, std::string_view text, bool one_before) {
  constexpr std::string_view plurals[] = {"tokens", "keys",  "queries", "rows",   "numbers",
                                          "floats", "bytes", "heads",   "layers", "stages",
                                          "nodes",  "words", "ids",     "logits", "drafts"};
  for (const std::string_view plural : plurals) {
    if (!one_before || text.substr(0, 1) != " " || text.substr(1, plural.size()) != plural) continue;
    const std::string_view rest = text.substr(1 + plural.size());
    if (!rest.empty() && rest[0] != ' ' && rest[0] != ',' && rest[0] != ';' && rest[0] != '.') continue;
    out += ' ';
    if (plural == "queries") {
      out += "query";
    } else {
      out += plural.substr(0, plural.size() - 1);
    }
    out += rest;
    return;
  }
  out += text;
}

/// fail() of parts whose types are erased. Kept out of its callers, where it would only make the way without a failure
/// longer.
[[nodiscard, gnu::noinline, gnu::cold]] inline Status fail_of_parts(StatusCode code,
                                                                    std::initializer_list<Part> parts) noexcept {
  std::string text;
  make_text(text, [&] {
    std::string made;
    bool one_before = false;
    for (const Part& part : parts) {
      if (part.is_text()) {
        append_text(made, part.text(), one_before);
      } else {
        part.append_to(made);
      }
      one_before = part.is_one();
    }
    text = std::move(made);
  });
  return Status(code, std::move(text));
}
}  // namespace detail

/// Builds a failed Status from text and numbers: `fail(StatusCode::invalid_argument, "head_dim is ", 0)`. Does not
/// throw.
template <class... Parts>
[[nodiscard]] Status fail(StatusCode code, const Parts&... parts) noexcept {
  return detail::fail_of_parts(code, {detail::Part(parts)...});
}

namespace detail {
/// least <= number <= most, or invalid_argument naming it.
[[nodiscard]] inline Status check_range(const char* name, std::int64_t number, std::int64_t least, std::int64_t most) {
  if (number >= least && number <= most) return {};
  return fail(StatusCode::invalid_argument, name, " is ", number, ", must be in ", least, " .. ", most);
}
}  // namespace detail

/// A value, or the failed Status that says why there is no value.
template <class T>
class [[nodiscard]] Result {
 public:
  /// A value; ok().
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  /// No value. `failure` must not be ok.
  Result(Status failure) : status_(std::move(failure)) {}  // NOLINT(google-explicit-constructor)

  /// true if there is a value.
  [[nodiscard]] bool ok() const noexcept { return value_.has_value(); }
  /// true if there is a value.
  [[nodiscard]] explicit operator bool() const noexcept { return ok(); }
  /// Why there is no value; ok if there is one.
  [[nodiscard]] const Status& status() const noexcept { return status_; }

  /// The value. Only if ok(): otherwise the behaviour is undefined.
  /// \{
  [[nodiscard]] T& operator*() & noexcept { return *value_; }
  [[nodiscard]] const T& operator*() const& noexcept { return *value_; }
  [[nodiscard]] T&& operator*() && noexcept { return *std::move(value_); }
  [[nodiscard]] T* operator->() noexcept { return &*value_; }
  [[nodiscard]] const T* operator->() const noexcept { return &*value_; }
  /// \}

 private:
  std::optional<T> value_;
  Status status_;
};

#if defined(__cpp_exceptions)
/// What check() and value_or_throw() throw. Absent under -fno-exceptions.
class Error : public std::runtime_error {
 public:
  /// Its message is what() says.
  explicit Error(Status status) : std::runtime_error(status.message()), status_(std::move(status)) {}
  /// The failure.
  [[nodiscard]] const Status& status() const noexcept { return status_; }

 private:
  Status status_;
};

/// Throws Error unless `status` is ok. Absent under -fno-exceptions.
inline void check(Status status) {
  if (!status.ok()) throw Error(std::move(status));
}

/// The value of `result`, or throws Error. Absent under -fno-exceptions.
template <class T>
[[nodiscard]] T value_or_throw(Result<T> result) {
  if (!result.ok()) throw Error(result.status());
  return *std::move(result);
}
#endif

}  // namespace heed::inline HEED_ABI
