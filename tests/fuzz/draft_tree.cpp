// Draft trees of any shape on caches of any rule: a named refusal, or every node has the bits of decoding its path token
// by token (TreePaths), and its numbers (TreeMask). Links may lead anywhere.
#include <cmath>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/simd/scalar.hpp>
#include <heed/speculative/draft_tree.hpp>
#include <heed/speculative/tree_mask.hpp>
#include <heed/speculative/tree_paths.hpp>

#include "fuzz/rules.hpp"

namespace {

using heed::DraftTree;
using heed::Index;
using heed_fuzz::Bytes;
using Cache = heed::KvCache<heed::Mqa, heed::F32>;
using Ids = std::vector<std::int32_t>;

constexpr Index width = 4, heads = 2, out_width = heads * width;
constexpr heed::Mqa policy{.num_heads = heads, .head_dim = width, .scale = 0.5f};
constexpr float slopes[] = {0.25f, 0.0625f};

/// A row of a token by its id and number, so that equal texts have equal rows.
std::vector<float> rows(const Ids& ids, float kind) {
  std::vector<float> made;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    for (Index d = 0; d < width; ++d) made.push_back(std::sin(float(ids[i]) * 1.7f + float(d) + kind));
  }
  return made;
}
std::vector<float> queries(const Ids& ids) {
  std::vector<float> made = rows(ids, 0.3f), all;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    for (int head = 0; head < heads; ++head) {
      all.insert(all.end(), made.begin() + std::ptrdiff_t(i) * width, made.begin() + std::ptrdiff_t(i + 1) * width);
    }
  }
  return all;
}

template <class Step>
void write(Step& step, const Ids& ids) {
  FUZZ_CHECK(step.write(0, rows(ids, 1), rows(ids, 2)).ok());
}

template <class Keys>
heed::Status attend(const Keys& keys, heed::MaskRef mask, const Ids& ids, bool alibi, std::vector<float>& out) {
  const std::vector<float> q = queries(ids);
  out.assign(q.size(), std::nanf(""));
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  heed::AttendOptions options;
  if (alibi) options.alibi_slopes = slopes;
  return heed::attend<heed::Scalar>(policy, q, keys, mask, out, workspace, serial, options);
}

/// Any parents: now and then one that is none.
heed::Result<DraftTree> tree(Bytes& in, Index nodes) {
  if (in.one_in(4)) {
    std::vector<Index> child, sibling, order;
    for (Index i = 0; i < nodes; ++i) child.push_back(in.one_in(3) ? in.pick(-2, nodes) : in.one_in(2) ? i + 1 : -1);
    for (Index i = 0; i < nodes; ++i) sibling.push_back(in.one_in(3) ? in.pick(-2, nodes) : -1);
    return DraftTree::from_links(child, sibling, order);
  }
  std::vector<Index> parents;
  for (Index i = 0; i < nodes; ++i)
    parents.push_back(in.one_in(40) ? in.extreme() : in.pick(-1, std::max<Index>(i, 1) - 1));
  return DraftTree::create(parents);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  auto cache = Cache::create(policy, {.undo_tokens = in.pick(0, 3), .page_tokens = in.pick(1, 8)}, heed_fuzz::rule(in));
  if (!cache.ok()) return 0;
  const bool alibi = in.one_in(3);
  for (Index left = in.pick(0, 50); left > 0;) {
    Ids ids;
    for (Index i = std::min(left, in.pick(1, 9)); i > 0; --i, --left) ids.push_back(std::int32_t(in.pick(0, 5)));
    auto step = cache->begin(ids);
    FUZZ_CHECK(step.ok());
    write(*step, ids);
    FUZZ_CHECK(step->commit().ok());
  }

  const auto drafts = tree(in, in.pick(0, 20));
  if (!drafts.ok() || drafts->size() == 0) return 0;
  Ids ids;
  for (Index i = 0; i < drafts->size(); ++i) ids.push_back(std::int32_t(in.pick(0, 5)));
  auto step = cache->begin(ids);
  FUZZ_CHECK(step.ok());
  write(*step, ids);
  const auto keys = step->keys(0);
  std::vector<float> paths, masked;
  const auto by_path = heed::TreePaths::create(keys, *drafts);
  FUZZ_CHECK(by_path.ok(), by_path.status().message());
  const heed::Status status = attend(by_path->keys(keys), {}, ids, alibi, paths);
  FUZZ_CHECK(status.ok(), status.message());
  const auto mask = heed::TreeMask::create(keys, *drafts);
  const bool has_mask = mask.ok();
  FUZZ_CHECK(has_mask != cache->rule().has_history());
  if (has_mask) FUZZ_CHECK(attend(keys, *mask, ids, alibi, masked).ok());
  step->abort();

  for (Index node = 0; node < drafts->size(); ++node) {
    auto fork = cache->fork();
    FUZZ_CHECK(fork.ok());
    std::vector<float> alone;
    for (const Index on_path : drafts->path(node)) {
      const Ids one{ids[std::size_t(on_path)]};
      auto single = fork->begin(one);
      FUZZ_CHECK(single.ok());
      write(*single, one);
      FUZZ_CHECK(attend(single->keys(0), {}, one, alibi, alone).ok());
      FUZZ_CHECK(single->commit().ok());
    }
    const float* const of_node = paths.data() + node * out_width;
    FUZZ_CHECK(std::memcmp(of_node, alone.data(), sizeof(float) * std::size_t(out_width)) == 0);
    for (Index i = 0; has_mask && i < out_width; ++i) {
      FUZZ_CHECK(std::abs(masked[std::size_t(node * out_width + i)] - alone[std::size_t(i)]) <= 2e-6f);
    }
  }
  return 0;
}
