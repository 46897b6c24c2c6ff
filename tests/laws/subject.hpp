/// \file
/// What a law is checked on: a kernel (heed::Kernel) and the storage of its codecs, both without their types. So a law is
/// compiled once, not once per kernel; the kernels are those of heed::kernels. CMakeLists.txt holds the list.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include <heed/cache/strided.hpp>
#include <heed/attend_options.hpp>
#include <heed/concepts.hpp>
#include <heed/kernel/finish_call.hpp>
#include <heed/kernel/kernel.hpp>
#include <heed/math/maths.hpp>
#include <heed/retention/mask_ref.hpp>
#include <heed/workspace.hpp>

namespace heed_test {

using heed::Index;

enum class Mechanism { gqa, mha, mqa, mfa, shared_row, mfa_kr, mla, mla_expanded };

/// Whether a mechanism caches one row of which keys and values are both made.
[[nodiscard]] inline bool shares_rows(Mechanism mechanism) { return mechanism >= Mechanism::shared_row; }
/// Whether all query heads read the same rows.
[[nodiscard]] inline bool has_one_kv_head(Mechanism mechanism) {
  return mechanism == Mechanism::mqa || mechanism == Mechanism::mfa || mechanism >= Mechanism::mfa_kr;
}

/// The mechanisms of a kernel; those with shared rows need one codec for keys and values.
[[nodiscard]] inline std::vector<Mechanism> mechanisms_of(bool shares) {
  std::vector<Mechanism> all{Mechanism::gqa, Mechanism::mha, Mechanism::mqa, Mechanism::mfa};
  if (shares) {
    all.insert(all.end(), {Mechanism::shared_row, Mechanism::mfa_kr, Mechanism::mla, Mechanism::mla_expanded});
  }
  return all;
}

/// The numbers of a policy.
struct AttentionShape {
  Mechanism mechanism = Mechanism::gqa;
  Index heads = 1;
  Index kv_heads = 1;
  Index key_dim = 1;
  Index value_dim = 1;
  float scale = 1;
};

/// A KeyValueSource without its codecs.
class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;
  [[nodiscard]] virtual Index size() const = 0;
  [[nodiscard]] virtual heed::RowRun row_run(int stream, Index head, Index first, Index max) const = 0;
  [[nodiscard]] virtual Index position(Index key) const = 0;
  /// base(), if the source behind is an OffsetSource.
  [[nodiscard]] virtual std::optional<heed::RowBase> base(int, Index) const { return {}; }

  /// Only of staged sources.
  [[nodiscard]] virtual Index stages() const { return 0; }
  [[nodiscard]] virtual heed::Interval stage_queries(Index) const { return {}; }
  [[nodiscard]] virtual Index stage_size(Index) const { return 0; }
  [[nodiscard]] virtual heed::RowRun stage_row_run(Index, int, Index, Index, Index) const { return {}; }
  [[nodiscard]] virtual Index stage_position(Index, Index) const { return 0; }
};

/// A KvCache of one layer.
class Cache {
 public:
  Cache() = default;
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  virtual ~Cache() = default;
  /// One committed step with the tokens of `keys` [tokens][kv_heads][key_dim]; `values` is unused with shared rows.
  virtual void append(std::span<const float> keys, std::span<const float> values) = 0;
  virtual void truncate(Index tokens) = 0;
  /// The committed tokens.
  [[nodiscard]] virtual std::unique_ptr<Source> keys() const = 0;
};

/// Any Executor; the executor must outlive it.
class AnyExecutor {
 public:
  using Body = heed::FunctionRef<void(Index, Index)>;
  template <heed::Executor E>
    requires(!std::same_as<E, AnyExecutor>)
  explicit AnyExecutor(E& executor)
      : workers_(executor.workers()),
        run_([&executor](Index tasks, Body body) { executor.parallel_for(tasks, body); }) {}
  [[nodiscard]] Index workers() const { return workers_; }
  void parallel_for(Index tasks, Body body) { run_(tasks, body); }

 private:
  Index workers_;
  std::function<void(Index, Body)> run_;
};
static_assert(heed::Executor<AnyExecutor>);

/// A Sequence without the type of its source.
struct Call {
  const Source* keys = nullptr;
  heed::MaskRef mask;
  std::span<const float> q;
  std::span<float> out;
  std::span<float> lse = {};
  std::span<const Index> query_positions = {};
};

/// A PartialSequence without the type of its source.
struct PartialCall {
  const Source* keys = nullptr;
  heed::MaskRef mask;
  std::span<const float> q;
  heed::KeyRange range = {};
  heed::PartialStates* states = nullptr;
  std::span<const Index> query_positions = {};
};

/// The sizes that bytes of partial calls are asked for.
struct PartialSizes {
  Index queries = 0;
  Index keys = 0;
  heed::KeyRange range = {};
  Index nodes = 0;  ///< of a finish
  Index workers = 1;
  Index stages = 1;
};
struct PartialBytes {
  std::size_t states = 0, workspace = 0, finish_workspace = 0;
};

/// Rows of one key codec and one value codec, without their types.
class Storage {
 public:
  Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  virtual ~Storage() = default;
  virtual heed::Status attend(const heed::Kernel& kernel, const AttentionShape& shape, std::span<const Call> calls,
                              heed::Workspace& workspace, AnyExecutor executor,
                              const heed::AttendOptions& options) const = 0;
  /// The same by a plan, made of the calls.
  virtual heed::Status attend_planned(const heed::Kernel& kernel, const AttentionShape& shape,
                                      std::span<const Call> calls, heed::Workspace& workspace, AnyExecutor executor,
                                      const heed::AttendOptions& options) const = 0;
  virtual heed::Status attend_partial(const heed::Kernel& kernel, const AttentionShape& shape,
                                      std::span<const PartialCall> calls, heed::Workspace& workspace,
                                      AnyExecutor executor, const heed::AttendOptions& options) const = 0;
  virtual heed::Status attend_finish(const heed::Kernel& kernel, const AttentionShape& shape,
                                     std::span<const heed::FinishSequence> sequences, heed::Workspace& workspace,
                                     AnyExecutor executor, const heed::AttendOptions& options) const = 0;
  [[nodiscard]] virtual PartialBytes partial_bytes(const heed::Kernel& kernel, const AttentionShape& shape,
                                                  const PartialSizes& sizes) const = 0;
  [[nodiscard]] virtual heed::KeyRange key_chunks(const Source& keys, heed::MaskRef mask) const = 0;
  [[nodiscard]] virtual heed::Result<std::size_t> workspace_bytes(const heed::Kernel& kernel,
                                                                  const AttentionShape& shape, Index queries,
                                                                  Index keys, Index workers,
                                                                  Index stages = 1) const = 0;
  [[nodiscard]] virtual std::unique_ptr<Cache> cache(const AttentionShape& shape) const = 0;
  [[nodiscard]] virtual std::unique_ptr<Source> strided(Index tokens, const heed::StridedStream& keys,
                                                        const heed::StridedStream& values,
                                                        Index first_position) const = 0;
  /// The stored bytes of consecutive numbers.
  [[nodiscard]] virtual std::vector<std::byte> encode_keys(std::span<const float> numbers) const = 0;
  [[nodiscard]] virtual std::vector<std::byte> encode_values(std::span<const float> numbers) const = 0;
};

struct Subject {
  const heed::Kernel& kernel;
  const Storage& storage;

  [[nodiscard]] std::string key_codec() const { return kernel.key_codec; }
  [[nodiscard]] std::string value_codec() const { return kernel.value_codec; }
  [[nodiscard]] bool has_default_math() const { return std::string(kernel.math) == heed::Maths::First::name; }
  [[nodiscard]] std::string name() const {
    return std::string(kernel.backend) + "_" + kernel.key_codec + "_" + kernel.value_codec +
           (has_default_math() ? "" : std::string("_") + kernel.math);
  }
  /// Shared rows need one codec for keys and values.
  [[nodiscard]] bool shares() const { return key_codec() == value_codec(); }
  [[nodiscard]] heed::Status attend(const AttentionShape& shape, std::span<const Call> calls,
                                    heed::Workspace& workspace, AnyExecutor executor,
                                    const heed::AttendOptions& options) const {
    return storage.attend(kernel, shape, calls, workspace, executor, options);
  }
};

inline std::ostream& operator<<(std::ostream& out, const Subject& subject) { return out << subject.name(); }

/// All subjects of this program.
inline std::vector<Subject>& subjects() {
  static std::vector<Subject> all;
  return all;
}

}  // namespace heed_test
