// Merging the results of disjoint key sets, and making such results by splitting the keys.
#include <cmath>
#include <string>
#include <vector>

#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/kernel/softmax_state.hpp>
#include <heed/policy/grouped.hpp>

#include "golden/handlers/cached_run.hpp"
#include "golden/kernels.hpp"
#include "golden/tolerances.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"

namespace heed_golden::softmax_merge_handler {
namespace {

/// (lse, normalised output) of `rows` rows.
struct States {
  std::vector<float> lse;
  std::vector<float> o;
};

void merge_into(States& left, const States& right) {
  const auto rows = left.lse.size();
  const auto width = rows == 0 ? 0 : left.o.size() / rows;
  for (std::size_t r = 0; r < rows; ++r) {
    float* o = left.o.data() + r * width;
    heed::merge_results(left.lse[r], o, right.lse[r], right.o.data() + r * width, heed::Index(width), o, &left.lse[r]);
  }
}

States merged_in_order(std::vector<States> parts) {
  for (std::size_t p = 1; p < parts.size(); ++p) merge_into(parts[0], parts[p]);
  return parts.at(0);
}

States merged_as_tree(std::vector<States> parts) {
  for (std::size_t step = 1; step < parts.size(); step *= 2) {
    for (std::size_t p = 0; p + step < parts.size(); p += 2 * step) merge_into(parts[p], parts[p + step]);
  }
  return parts.at(0);
}

void check_merged(Case& one, const std::vector<States>& parts, const TensorShape& rows, Int width,
                  const std::string& of, Report& report) {
  const auto lse = one.get<double>("lse", rows);
  const auto o = one.get<double>("o", {rows[0], rows[1], width});
  for (const auto& [order, merged] :
       {std::pair{"in order", merged_in_order(parts)}, {"as a tree", merged_as_tree(parts)}}) {
    const std::string suffix = " merged " + std::string(order) + of;
    report.near<float>("lse" + suffix, merged.lse, lse, Tolerances::plain(lse));
    report.near<float>("o" + suffix, merged.o, o, Tolerances::plain(o));
  }
}

std::vector<States> read_parts(Case& one, const TensorShape& rows, Int width) {
  const Int count = one.shape("lse_partial").at(0);
  const auto lse = one.get<float>("lse_partial", {count, rows[0], rows[1]});
  const auto o = one.get<float>("o_partial", {count, rows[0], rows[1], width});
  std::vector<States> parts;
  const auto cut = [count](const std::vector<float>& all, Int p) {
    const auto size = std::ptrdiff_t(all.size()) / count;
    return std::vector<float>(all.begin() + p * size, all.begin() + (p + 1) * size);
  };
  for (Int p = 0; p < count; ++p) parts.push_back({cut(lse, p), cut(o, p)});
  return parts;
}

template <class Codec>
struct Encoded {
  heed::StridedStream stream;
  std::vector<std::byte> bytes;
  std::vector<double> decoded;

  Encoded(const std::vector<float>& rows, Int heads, Int width) {
    const Int row = Codec::row_bytes(width), count = Int(rows.size()) / width;
    bytes.resize(std::size_t(count * row));
    std::vector<float> back(rows.size());
    for (Int r = 0; r < count; ++r) {
      Codec::encode(rows.data() + r * width, width, bytes.data() + r * row);
      Codec::decode(bytes.data() + r * row, width, back.data() + r * width);
    }
    decoded = oracle::doubles(back);
    stream = {.data = bytes.data(), .token_stride_bytes = heads * row, .head_stride_bytes = row, .row_bytes = row};
  }
};

// Attention over every split of the keys by itself, then merged; and over all keys.
template <class Backend, class Codec>
void compare_splits(Case& one, const Setup& setup, Report& report) {
  Config& config = one.config;
  const Int keys = config.get<Int>("kv_len"), queries = config.get<Int>("q_len");
  heed::Gqa policy{.num_heads = config.get<Int>("num_attention_heads"),
                   .num_kv_heads = config.get<Int>("num_key_value_heads"),
                   .head_dim = config.get<Int>("head_dim")};
  policy.v_head_dim = config.get_or<Int>("v_head_dim", policy.head_dim);
  policy.scale = float(config.get_or<double>("softmax_scale", 1 / std::sqrt(double(policy.head_dim))));
  const auto bounds = config.get<std::vector<Int>>("split_bounds");
  if (bounds.size() < 2 || bounds.front() != 0 || bounds.back() != keys)
    throw Unusable("split_bounds do not cover kv_len");
  const auto q = one.get<float>("q", {queries, policy.num_heads, policy.head_dim});
  const auto k = one.get<float>("k", {keys, policy.num_kv_heads, policy.head_dim});
  const auto v = one.get<float>("v", {keys, policy.num_kv_heads, policy.v_head_dim});
  const Encoded<Codec> stored_k(k, policy.num_kv_heads, policy.head_dim),
      stored_v(v, policy.num_kv_heads, policy.v_head_dim);

  oracle::Problem problem{.heads = policy.num_heads,
                          .kv_heads = policy.num_kv_heads,
                          .key_dim = policy.head_dim,
                          .value_dim = policy.v_head_dim,
                          .scale = double(policy.scale)};
  problem.q = oracle::doubles(q);
  problem.k = stored_k.decoded;
  problem.v = stored_v.decoded;
  std::vector<heed::Index> positions;
  for (Int i = 0; i < queries; ++i) positions.push_back(keys - queries + i);

  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::Causal causal;
  const auto attend = [&](Int begin, Int end) {
    if (begin > end) throw Unusable("split_bounds go back");
    heed::StridedStream key = stored_k.stream, value = stored_v.stream;
    key.data += begin * key.token_stride_bytes;
    value.data += begin * value.token_stride_bytes;
    const heed::StridedSource<Codec> source(end - begin, key, value, begin);
    States state{std::vector<float>(std::size_t(queries * policy.num_heads)),
                 std::vector<float>(std::size_t(queries * policy.num_heads * policy.v_head_dim))};
    heed::check(heed::attend<Backend>(policy, std::span<const float>(q), source, heed::MaskRef(causal),
                                      std::span(state.o), workspace, executor, {}, std::span(state.lse), positions));
    problem.visible = [=](Int query, Int j) { return begin <= j && j < end && j <= query; };
    const oracle::Answer answer = oracle::attention(problem);
    const std::string range = " of keys " + std::to_string(begin) + " to " + std::to_string(end);
    report.bound("o" + range + " against the oracle, in units of the bound", oracle::worst_output(state.o, answer));
    report.bound("lse" + range + " against the oracle, in units of the bound", oracle::worst_lse(state.lse, answer));
    return state;
  };

  std::vector<States> parts;
  for (std::size_t s = 0; s + 1 < bounds.size(); ++s) parts.push_back(attend(bounds[s], bounds[s + 1]));
  const States whole = attend(0, keys);
  const TensorShape rows = {queries, policy.num_heads};
  if (setup.codec != "f32") return;
  const auto references = read_parts(one, rows, policy.v_head_dim);
  if (references.size() != parts.size()) throw Unusable("lse_partial has another number of parts than split_bounds");
  for (std::size_t s = 0; s < parts.size(); ++s) {
    const std::vector<double> lse = oracle::doubles(references[s].lse), o = oracle::doubles(references[s].o);
    report.near<float>("lse_partial " + std::to_string(s), parts[s].lse, lse, Tolerances::plain(lse));
    report.near<float>("o_partial " + std::to_string(s), parts[s].o, o, Tolerances::plain(o));
  }
  check_merged(one, parts, rows, policy.v_head_dim, ", of attention over the splits", report);
  check_merged(one, {whole}, rows, policy.v_head_dim, ", of one split", report);
}

void run_merge(Case& one, const Setup& setup, Report& report) {
  Config& config = one.config;
  config.expect("lse_base", "natural");
  config.expect("empty_state", "lse = -inf, o = 0");
  for (const char* name : {"partials", "rows", "num_attention_heads", "v_head_dim"}) config.skip(name);
  const TensorShape o = one.shape("o");
  if (o.size() != 3) throw Unusable("tensor 'o' must have 3 dimensions");
  check_merged(one, read_parts(one, {o[0], o[1]}, o[2]), {o[0], o[1]}, o[2], "", report);
  if (one.has("q")) {
    with_kernel(setup, [&]<class Backend, class Codec>() { compare_splits<Backend, Codec>(one, setup, report); });
  }
}

const Register merge{{"softmax_merge"}, run_merge};

}  // namespace
}  // namespace heed_golden::softmax_merge_handler
