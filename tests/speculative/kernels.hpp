/// \file
/// The kernels these tests run on, compiled once, in kernels.cpp.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/codec/f16.hpp>
#include <heed/codec/f32.hpp>

#include "policy/backend.hpp"

#define HEED_SPECULATIVE_KERNEL(Codec)                                                                 \
  template void heed::detail::run<heed_test::Backend, heed::Codec, heed::Codec>(                       \
      const heed::AttentionLayout&, const heed::detail::PreparationRef&, const heed::AttendOptions&,   \
      std::span<const heed::detail::Job>, const heed::detail::Plan&, const heed::detail::CallScratch&, \
      heed::detail::ExecutorRef)

#if !defined(HEED_SPECULATIVE_INSTANCE)
extern HEED_SPECULATIVE_KERNEL(F32);
extern HEED_SPECULATIVE_KERNEL(Bf16);
extern HEED_SPECULATIVE_KERNEL(F16);
#endif
