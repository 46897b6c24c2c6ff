/// \file
/// MLGRU in the processor's caches: a step, a prompt, and the recurrence alone.
#pragma once

#include "ternary/common.hpp"

namespace bench {

template <class L>
heed::Mlgru<L> random_mlgru(Index width) {
  Ternaries weights(6);
  Gaussians numbers(7);
  const auto make = [&] { return random_bit_linear<L>(width, width, weights, numbers); };
  heed::MlgruProjections<L> projections{.i = make(), .f = make(), .g = make(), .o = make()};
  const std::vector<float> gains = random_gains(width, numbers), bound(std::size_t(width), 0.5f);
  return heed::value_or_throw(heed::Mlgru<L>::create(std::move(projections), {gains, 1, width}, bound));
}

template <class L>
void run_mlgru_of(Index width, int repeats) {
  const heed::Mlgru<L> layer = random_mlgru<L>(width);
  constexpr Index prompt = 512;
  Gaussians numbers(8);
  const std::vector<float> u = random_rows(prompt, width, numbers);
  std::vector<float> y(u.size()), expected(u.size());
  heed::Workspace workspace;
  const auto new_state = [&] { return heed::value_or_throw(heed::RecurrentState::create({.width = width})); };
  const auto run = [&]<class B>(heed::RecurrentState& state, Index first, Index count, std::vector<float>& to,
                                heed::ThreadPool& executor, B) {
    const auto at = std::size_t(first * width), size = std::size_t(count * width);
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(count)));
    heed::check(layer.template forward<B>(std::span(u).subspan(at, size), heed::value_or_throw(step.layer(0)),
                                          std::span(to).subspan(at, size), workspace, executor));
    heed::check(step.commit());
  };
  for (const Index threads : thread_counts()) {
    heed::ThreadPool& executor = pool(threads);
    // Some steps by plain loops, and as many by these, one by one and at once.
    constexpr Index checked = 17;
    heed::RecurrentState state = new_state(), stepped = new_state(), plain = new_state();
    const auto first = [&](std::vector<float>& rows) { return std::span(rows).first(std::size_t(checked * width)); };
    for (Index t = 0; t < checked; ++t) run(plain, t, 1, expected, executor, PlainLoops());
    for (Index t = 0; t < checked; ++t) run(stepped, t, 1, y, executor, Backend());
    check_same(first(y), first(expected), "steps of MLGRU");
    run(state, 0, checked, y, executor, Backend());
    check_same(first(y), first(expected), "a prompt of MLGRU");

    const auto print = [&](const char* what, Index tokens, const Timing& t) {
      const double operations = 2 * 4 * double(width * width) * double(tokens) / t.seconds * 1e-9;
      std::printf("%-8s %-18s hidden %4lld, threads %lld %10.2f %6.1f %9.1f %6.1f\n", L::name, what,
                  static_cast<long long>(width), static_cast<long long>(threads), t.seconds * 1e6 / double(tokens),
                  100 * t.spread, operations, t.limit > 0 ? 100 * operations / t.limit : 0.0);
    };
    const auto step = [&] { run(state, 0, 1, y, executor, Backend()); };
    print("step", 1, time_calls(100 * repeats, threads, Limit::dot_int8, step));
    const auto scan = [&] { run(state, 0, prompt, y, executor, Backend()); };
    print("prompt of 512", prompt, time_calls(repeats, threads, Limit::dot_int8, scan));
  }
  if constexpr (std::is_same_v<L, heed::TwoBit>) {
    std::vector<float> h(std::size_t(width), 0.0f), bound(std::size_t(width), 0.5f);
    const auto recurrence = [&] {
      for (Index t = 0; t + 1 < prompt; ++t) {
        const auto at = std::size_t(t * width);
        Backend::Gates::gated_mix(u.data() + at, u.data() + at + width, bound.data(), false, width, h.data());
      }
    };
    const Timing t = time_calls(10 * repeats, 1, Limit::fma_f32, recurrence);
    std::printf("%-8s %-18s hidden %4lld, threads 1 %10.3f %6.1f\n", "float32", "recurrence alone",
                static_cast<long long>(width), t.seconds * 1e6 / double(prompt - 1), 100 * t.spread);
  }
  std::fflush(stdout);
}

inline void run_mlgru(int repeats) {
  std::printf("\nMLGRU, weights in cache%-32s us/token    +-%%     GOP/s  %%int8\n", "");
  for (const Index width : {1024, 2560}) {
    heed::TernaryLayouts::for_each([&]<class L>() { run_mlgru_of<L>(width, repeats); });
  }
}

}  // namespace bench
