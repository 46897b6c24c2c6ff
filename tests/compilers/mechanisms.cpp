// More of the library than README's program: the templates of other policies, codecs, rules, backends and executors.
#include <heed/heed.hpp>

template class heed::KvCache<heed::Mla, heed::F16>;
template class heed::KvCache<heed::MfaKr, heed::Bf16>;
template class heed::KvCache<heed::Gqa, heed::F32>;
template class heed::BitLinear<heed::TwoBit>;
template class heed::Mlgru<heed::TwoBit>;
template class heed::MatMulFreeLm<heed::TwoBit, heed::Bf16>;

template <class Backend, class Policy, class Codec>
heed::Status attended(const Policy& policy, heed::KvCache<Policy, Codec>& cache, std::span<const float> q,
                      std::span<float> out, heed::Workspace& workspace) {
  heed::SerialExecutor executor;
  return heed::attend<Backend>(policy, q, cache.keys(0), out, workspace, executor);
}

heed::Status one(heed::KvCache<heed::Mla, heed::F16>& cache, const heed::Mla& mla, std::span<const float> q,
                 std::span<float> out, heed::Workspace& workspace) {
  if (heed::Status status = attended<heed::DefaultBackend>(mla, cache, q, out, workspace); !status) return status;
  heed::SerialExecutor executor;
  return heed::attend<heed::DefaultBackend>(heed::MlaExpanded{mla}, q, cache.keys(0), out, workspace, executor);
}

heed::Status two(heed::KvCache<heed::MfaKr, heed::Bf16>& cache, const heed::MfaKr& mfa, std::span<const float> q,
                 std::span<float> out, heed::Workspace& workspace) {
  return attended<heed::DefaultBackend>(mfa, cache, q, out, workspace);
}

heed::Status three(heed::KvCache<heed::Gqa, heed::F32>& cache, const heed::Gqa& gqa, std::span<const float> q,
                   std::span<float> out, heed::Workspace& workspace) {
#if HEED_HAS_EIGEN
  if (heed::Status status = attended<heed::EigenPackets>(gqa, cache, q, out, workspace); !status) return status;
#endif
  return attended<heed::Scalar>(gqa, cache, q, out, workspace);
}

heed::Status four(const heed::BitLinear<heed::TwoBit>& layer, std::span<const float> x, std::span<float> out,
                  heed::Workspace& workspace) {
  heed::SerialExecutor executor;
  return heed::bit_linear<heed::DefaultBackend>(layer, x, out, workspace, executor);
}

heed::Result<heed::KvCache<heed::Mla, heed::F16>> five(const heed::Mla& mla) {
  return heed::KvCache<heed::Mla, heed::F16>::create(
      mla, {.layers = 2}, heed::Separators{.initial = 4, .window = 256, .ids = heed::separators::llama3()});
}
