/// \file
/// Rotary position embedding (RoPE, arXiv 2104.09864): pairs of numbers turned by an angle that grows with position.
///
///     angle = position f_i,  f_i = theta^(-2i / rotary_dim),  i = 0 ... rotary_dim / 2 - 1
///     x' = x cos(angle) - y sin(angle)      y' = x sin(angle) + y cos(angle)
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>

#include <heed/checked.hpp>
#include <heed/floats.hpp>
#include <heed/memory.hpp>
#include <heed/moved.hpp>
#include <heed/rope/yarn.hpp>
#include <heed/status.hpp>
#include <heed/turns.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI {

/// Which two numbers are a pair. This is a property of the weight file, not of the model: converters permute rows.
enum class RopeLayout {
  unset,        ///< refused by validate()
  interleaved,  ///< (x[2i], x[2i+1]): GPT-J, DeepSeek's own code, GGUF files of Llama
  half_split,   ///< (x[i], x[i + rotary_dim/2]): NeoX, rotate_half, Hugging Face files of Llama, Qwen and Step-3
};

/// What is rotated, and how fast. Of a row's head_dim numbers, [rotary_offset, rotary_offset + rotary_dim) are rotated:
/// the first ones in models with partial rotary, the last ones in MLA.
struct RopeOptions {
  Index head_dim = 0;                     ///< numbers of a row
  Index rotary_dim = head_dim;            ///< numbers that are rotated; even
  Index rotary_offset = 0;                ///< the first of them
  RopeLayout layout = RopeLayout::unset;  ///< must be set
  double theta = 0;                       ///< base of the frequencies, 1e4 to 5e5 in today's models; must be set
  double linear_factor = 1;               ///< linear scaling: positions are divided by it
  std::optional<Yarn> yarn = {};          ///< YaRN's options; empty: none
  Index table_positions = 65536;          ///< positions below this are looked up in tables; others are computed, slower
  /// Positions below this, rounded up to 16, have their angles in a table by which the kernel rotates keys while it reads
  /// them: rotary_dim * 4 bytes each. For caches of un-rotated keys, in-cache ranks above all: as many as the keys that a
  /// query sees. It changes no bit. 0: none.
  Index read_positions = 0;

  static constexpr Index max_table_positions = Index{1} << 31;  ///< limit of both

  /// invalid_argument naming the member and its value.
  [[nodiscard]] Status validate() const {
    if (head_dim < 1) return fail(StatusCode::invalid_argument, "head_dim is ", head_dim, ", must be at least 1");
    if (rotary_dim < 2 || rotary_dim > head_dim || rotary_dim % 2 != 0) {
      return fail(StatusCode::invalid_argument, "rotary_dim is ", rotary_dim,
                  ", must be even, at least 2 and at most head_dim ", head_dim);
    }
    if (rotary_offset < 0 || rotary_offset > head_dim - rotary_dim) {
      return fail(StatusCode::invalid_argument, "rotary_offset is ", rotary_offset, ", must be 0 to ",
                  head_dim - rotary_dim, " so that rotary_dim ", rotary_dim, " fits into head_dim ", head_dim);
    }
    if (layout != RopeLayout::interleaved && layout != RopeLayout::half_split) {
      return fail(StatusCode::invalid_argument, "layout is ", int(layout),
                  ", must be set to interleaved or half_split");
    }
    if (!(theta > 0 && detail::is_finite(theta)) || (yarn && theta <= 1)) {
      return fail(StatusCode::invalid_argument, "theta is ", theta, ", must be positive, and above 1 with yarn");
    }
    if (!(linear_factor > 0 && detail::is_finite(linear_factor))) {
      return fail(StatusCode::invalid_argument, "linear_factor is ", linear_factor, ", must be a positive number");
    }
    if (yarn && linear_factor != 1) {
      return fail(StatusCode::invalid_argument, "linear_factor is ", linear_factor, ", must be 1 with yarn");
    }
    if (table_positions < 0 || table_positions > max_table_positions) {
      return fail(StatusCode::invalid_argument, "table_positions is ", table_positions, ", must be 0 to ",
                  max_table_positions);
    }
    if (read_positions < 0 || read_positions > max_table_positions) {
      return fail(StatusCode::invalid_argument, "read_positions is ", read_positions, ", must be 0 to ",
                  max_table_positions);
    }
    return yarn ? yarn->validate() : Status{};
  }
};

/// To rotate, or to undo a rotation.
enum class RopeDirection {
  forward,  ///< by the angle, times the amplitude
  inverse,  ///< by the negative angle, and divided by the amplitude
};

/// The frequencies of one model, and tables that make rotations cheap. Owns its tables. Immutable: threads may share
/// it.
///
/// Angles are float64, because a float32 angle has an error of position * 6e-8 rad. The addition theorem gives cos and
/// sin of position 64 a + b from those of 64 a and of b, in float64. They are then rounded to float. So two small
/// tables serve 65,536 positions, and one evaluation serves all heads. A position gives the same bits wherever it is
/// rotated, at write or at read.
///
/// One that was moved from has options() of head_dim 0 and no frequencies. It rotates and writes nothing, and a policy
/// that points to it is refused.
class Rope {
 public:
  /// Computes the tables. Errors: those of RopeOptions::validate(); invalid_argument if the options together give a
  /// frequency or an amplitude that is not finite; out_of_memory.
  [[nodiscard]] static Result<Rope> create(const RopeOptions& options) {
    if (Status status = options.validate(); !status.ok()) return status;
    Rope rope(options);
    const Index rows = block + round_up(options.table_positions, block) / block;
    const Count numbers = Count(rows + 1) * options.rotary_dim;
    if (numbers.value() <= max_numbers) {
      const std::size_t bytes = std::size_t(numbers.value()) * sizeof(double);
      rope.table_.reset(static_cast<double*>(::operator new(bytes, table_alignment, std::nothrow)));
    }
    if (rope.table_ == nullptr) {
      return fail(StatusCode::out_of_memory, "no memory for the table of rotary_dim ", options.rotary_dim,
                  " and table_positions ", options.table_positions);
    }
    rope.fill_table(rows);
    if (Status status = rope.check_table(); !status.ok()) return status;
    if (Status status = rope.make_turns(); !status.ok()) return status;
    return rope;
  }

  /// As given to create().
  [[nodiscard]] const RopeOptions& options() const noexcept { return options_; }
  /// Frequencies of the pairs, [rotary_dim / 2], in radians per position, scaling included.
  [[nodiscard]] std::span<const double> frequencies() const noexcept { return {table_.get(), std::size_t(pairs_)}; }
  /// Length of a rotated pair over its length before the rotation: Yarn::amplitude(), or 1 without YaRN.
  [[nodiscard]] double amplitude() const noexcept { return amplitude_; }

  /// The rotation of a row for the kernel: without angles unless options().read_positions was given. It points into this
  /// Rope, also after it is moved.
  [[nodiscard]] KeyTurns turns() const noexcept {
    if (pairs_ == 0) return {};
    return {.angles = reinterpret_cast<const float*>(turns_.data()),
            .positions = round_up(options_->read_positions, KeyTurns::group),
            .pairs = pairs_,
            .first = options_->rotary_offset,
            .interleaved = options_->layout == RopeLayout::interleaved};
  }

  /// Rotates one row of head_dim floats in place.
  void apply(Index position, float* row, RopeDirection direction = RopeDirection::forward) const noexcept {
    rotate(&position, 1, 1, row, direction);
  }

  /// Rotates rows [tokens][num_heads][head_dim] in place, all heads of token t by positions[t]. invalid_argument if
  /// `rows` has another size.
  Status apply_rows(std::span<const Index> positions, Index num_heads, std::span<float> rows,
                    RopeDirection direction = RopeDirection::forward) const {
    if (Status status = detail::check_made("Rope", pairs_); !status.ok()) return status;
    const Index tokens = Index(positions.size());
    if (num_heads < 0 || !detail::has_size(rows.size(), Count(tokens) * num_heads * options_->head_dim)) {
      return fail(StatusCode::invalid_argument, "rows has ", rows.size(), " numbers, must have ", tokens,
                  " tokens x num_heads ", num_heads, " x head_dim ", options_->head_dim);
    }
    rotate(positions.data(), tokens, num_heads, rows.data(), direction);
    return {};
  }

  /// apply_rows() without the check.
  void rotate(const Index* positions, Index tokens, Index num_heads, float* rows,
              RopeDirection direction = RopeDirection::forward) const noexcept {
    rotate(positions, tokens, num_heads, rows, options_->head_dim, rows, direction);
  }

  /// Rotates rows that are `in_stride` floats apart and writes them to contiguous rows `out`. `in` and `out` may be the
  /// same memory.
  void rotate(const Index* positions, Index tokens, Index num_heads, const float* in, Index in_stride, float* out,
              RopeDirection direction = RopeDirection::forward) const noexcept {
    if (in != out) copy_unrotated(tokens * num_heads, in, in_stride, out);
    const Index offset = options_->rotary_offset;
    rotate_part(positions, tokens, num_heads, in + offset, in_stride, out + offset, options_->head_dim, direction);
  }

  /// Rotates only the rotary_dim numbers, which begin at `in` and `out` in rows of any stride.
  void rotate_part(const Index* positions, Index tokens, Index num_heads, const float* in, Index in_stride, float* out,
                   Index out_stride, RopeDirection direction = RopeDirection::forward) const noexcept {
    const double scale = direction == RopeDirection::forward ? amplitude_ : 1 / amplitude_;
    alignas(64) std::array<double, 2 * batch> high;
    alignas(64) std::array<float, 2 * batch> turn;
    for (Index first = 0; first < pairs_; first += batch) {
      const Index count = std::min(batch, pairs_ - first);
      for (Index t = 0; t < tokens; ++t) {
        const Index multiple = positions[t] & ~(block - 1);
        if (t == 0 || multiple != (positions[t - 1] & ~(block - 1))) coarse(multiple, first, count, scale, high.data());
        combine(high.data(), table_row(positions[t] - multiple) + first, count, turn.data());
        if (direction == RopeDirection::inverse) {
          for (Index i = 0; i < count; ++i) turn[std::size_t(batch + i)] = -turn[std::size_t(batch + i)];
        }
        for (Index h = 0; h < num_heads; ++h) {
          const Index row = t * num_heads + h;
          rotate_pairs(turn.data(), first, count, in + row * in_stride, out + row * out_stride);
        }
      }
    }
  }

 private:
  /// Positions per row of the coarse table. The fine table (64 x 128 numbers for rotary_dim 128) then stays in L2.
  static constexpr Index block = 64;
  /// Pairs whose cos and sin are on the stack at once.
  static constexpr Index batch = 128;
  /// Alignment of the table. If no vector crosses a cache line, a rotation takes 41 ns instead of 58 (256 numbers).
  static constexpr std::align_val_t table_alignment{64};
  struct Free {
    void operator()(double* table) const noexcept { ::operator delete(table, table_alignment); }
  };
  /// Limit of a table: 512 GiB.
  static constexpr Index max_numbers = Index{1} << 36;

  explicit Rope(const RopeOptions& options) noexcept
      : options_(options),
        pairs_(options.rotary_dim / 2),
        table_rows_(round_up(options.table_positions, block) / block),
        amplitude_(options.yarn ? options.yarn->amplitude() : 1.0) {}

  // table_ = frequencies [pairs], unused [pairs], then rows of cos [pairs], sin [pairs]: of positions 0 ... 63, then of
  // the multiples of 64.
  [[nodiscard]] double* table_row(Index index) const noexcept { return table_.get() + (index + 1) * 2 * pairs_; }

  void fill_table(Index rows) noexcept {
    const YarnRange range = options_->yarn ? options_->yarn->range(options_->rotary_dim, options_->theta) : YarnRange{};
    for (Index i = 0; i < pairs_; ++i) {
      const double plain = std::pow(options_->theta, -2.0 * double(i) / double(options_->rotary_dim));
      table_[std::size_t(i)] =
          options_->yarn ? options_->yarn->scaled(plain, i, range) : plain / options_->linear_factor;
      table_[std::size_t(pairs_ + i)] = 0;
    }
    for (Index r = 0; r < rows; ++r) {
      evaluate(r < block ? r : (r - block) * block, 0, pairs_, table_row(r), table_row(r) + pairs_);
    }
  }

  // The table of turns(), with the numbers that rotate_part() would use.
  [[nodiscard]] Status make_turns() {
    const Index positions = round_up(options_->read_positions, KeyTurns::group);
    if (positions == 0) return {};
    const Count bytes = Count(positions) * options_->rotary_dim * Index(sizeof(float));
    Result<Buffer> made = Buffer::allocate(default_memory(), bytes.value(), "table");
    if (!made.ok()) {
      return fail(StatusCode::out_of_memory, "no memory for the table of rotary_dim ", options_->rotary_dim,
                  " and read_positions ", options_->read_positions);
    }
    turns_ = *std::move(made);
    auto* const angles = reinterpret_cast<float*>(turns_.data());
    alignas(64) std::array<double, 2 * batch> high;
    alignas(64) std::array<float, 2 * batch> turn;
    for (Index first = 0; first < pairs_; first += batch) {
      const Index count = std::min(batch, pairs_ - first);
      for (Index position = 0; position < positions; ++position) {
        const Index multiple = position & ~(block - 1);
        if (position == multiple) coarse(multiple, first, count, amplitude_, high.data());
        combine(high.data(), table_row(position - multiple) + first, count, turn.data());
        float* to =
            angles + (position / KeyTurns::group * pairs_ + first) * 2 * KeyTurns::group + position % KeyTurns::group;
        for (Index i = 0; i < count; ++i, to += 2 * KeyTurns::group) {
          to[0] = turn[std::size_t(i)];
          to[KeyTurns::group] = turn[std::size_t(batch + i)];
        }
      }
    }
    return {};
  }

  // invalid_argument if options that are right alone make numbers together that no row can be rotated by.
  [[nodiscard]] Status check_table() const {
    constexpr double most_frequency = 0x1p900, most_amplitude = 0x1p100;  // any position times it is a finite angle
    for (Index i = 0; i < pairs_; ++i) {
      const double frequency = table_[std::size_t(i)];
      if (frequency >= 0 && frequency <= most_frequency) continue;
      if (options_->yarn) {
        return fail(StatusCode::invalid_argument, "theta is ", options_->theta, ", yarn.beta_fast ",
                    options_->yarn->beta_fast, " and yarn.beta_slow ", options_->yarn->beta_slow, ", which give pair ",
                    i, " the frequency ", frequency, ", must be finite");
      }
      return fail(StatusCode::invalid_argument, "theta is ", options_->theta, " and linear_factor ",
                  options_->linear_factor, ", which give pair ", i, " the frequency ", frequency, ", must be at most ",
                  most_frequency);
    }
    if (amplitude_ >= 1 / most_amplitude && amplitude_ <= most_amplitude) return {};
    return fail(StatusCode::invalid_argument, "yarn.mscale is ", options_->yarn->mscale, " and yarn.mscale_all_dim ",
                options_->yarn->mscale_all_dim, ", which give the amplitude ", amplitude_, ", must be in ",
                1 / most_amplitude, " .. ", most_amplitude);
  }

  void evaluate(Index position, Index first, Index count, double* cos, double* sin) const noexcept {
    for (Index i = 0; i < count; ++i) {
      const double angle = double(position) * table_[std::size_t(first + i)];
      cos[i] = std::cos(angle);
      sin[i] = std::sin(angle);
    }
  }

  // cos and sin of a multiple of 64, times scale, in high[0, count) and high[batch, batch + count).
  void coarse(Index multiple, Index first, Index count, double scale, double* high) const noexcept {
    const Index index = multiple / block;
    const bool known = index >= 0 && index < table_rows_;
    if (!known) evaluate(multiple, first, count, high, high + batch);
    const double* cos = known ? table_row(block + index) + first : high;
    const double* sin = known ? cos + pairs_ : high + batch;
    for (Index i = 0; i < count; ++i) {
      high[i] = scale * cos[i];
      high[batch + i] = scale * sin[i];
    }
  }

  // Fused where the ISA can. Written out, because compilers fuse or not by their flags, which would change results.
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
  [[nodiscard]] static float fma(float a, float b, float c) noexcept { return __builtin_fmaf(a, b, c); }
  [[nodiscard]] static double fma(double a, double b, double c) noexcept { return __builtin_fma(a, b, c); }
#else
  template <class T>
  [[nodiscard]] static T fma(T a, T b, T c) noexcept {
    return a * b + c;
  }
#endif

  // The addition theorem: turn = cos [batch], sin [batch] of the sum of two angles.
  void combine(const double* high, const double* low, Index count, float* turn) const noexcept {
    const double* low_sin = low + pairs_;
    const auto one = [=](Index i) {
      turn[i] = float(fma(high[i], low[i], -(high[batch + i] * low_sin[i])));
      turn[batch + i] = float(fma(high[batch + i], low[i], high[i] * low_sin[i]));
    };
    for_blocks(count, one);
  }

  // Whole blocks have a constant length, so that compilers also vectorise them at -O2.
  template <class Body>
  static void for_blocks(Index count, const Body& body) noexcept {
    constexpr Index length = 16;
    Index i = 0;
    for (; i + length <= count; i += length) {
      for (Index j = 0; j < length; ++j) body(i + j);
    }
    for (; i < count; ++i) body(i);
  }

  void copy_unrotated(Index rows, const float* in, Index in_stride, float* out) const noexcept {
    const Index begin = options_->rotary_offset, end = begin + options_->rotary_dim, dim = options_->head_dim;
    if (end - begin == dim) return;
    for (Index r = 0; r < rows; ++r) {
      detail::copy(in + r * in_stride, in + r * in_stride + begin, out + r * dim);
      detail::copy(in + r * in_stride + end, in + r * in_stride + dim, out + r * dim + end);
    }
  }

  void rotate_pairs(const float* turn, Index first, Index count, const float* x, float* y) const noexcept {
    if (options_->layout == RopeLayout::half_split) {
      rotate_split(turn, turn + batch, count, x + first, x + pairs_ + first, y + first, y + pairs_ + first);
    } else {
      x += 2 * first, y += 2 * first;
      for (Index i = 0; i < count; ++i) {
        const float a = x[2 * i], b = x[2 * i + 1];
        y[2 * i] = fma(a, turn[i], -(b * turn[batch + i]));
        y[2 * i + 1] = fma(a, turn[batch + i], b * turn[i]);
      }
    }
  }

  static void rotate_split(const float* cos, const float* sin, Index count, const float* a, const float* b, float* x,
                           float* y) noexcept {
    constexpr Index length = 16;
    Index i = 0;
    for (; i + length <= count; i += length) {  // in local memory, because input and output may be the same
      std::array<float, length> p, q, u, v;
      std::memcpy(p.data(), a + i, sizeof p);
      std::memcpy(q.data(), b + i, sizeof q);
      for (std::size_t j = 0; j < length; ++j) {
        u[j] = fma(p[j], cos[std::size_t(i) + j], -(q[j] * sin[std::size_t(i) + j]));
        v[j] = fma(p[j], sin[std::size_t(i) + j], q[j] * cos[std::size_t(i) + j]);
      }
      std::memcpy(x + i, u.data(), sizeof u);
      std::memcpy(y + i, v.data(), sizeof v);
    }
    for (; i < count; ++i) {
      const float p = a[i], q = b[i];
      x[i] = fma(p, cos[i], -(q * sin[i]));
      y[i] = fma(p, sin[i], q * cos[i]);
    }
  }

  detail::UntilMoved<RopeOptions> options_;
  detail::UntilMoved<Index> pairs_;
  Index table_rows_ = 0;
  double amplitude_ = 1;
  std::unique_ptr<double[], Free> table_;
  Buffer turns_;  // in huge pages where it is large: 5 % of a step at 4096 keys
};

}  // namespace heed::inline HEED_ABI
