/// \file
/// A MatMul-free LM of the released 2.7B shape with random weights: bytes, decode, prefill.
#pragma once

#include "ternary/bf16.hpp"
#include "ternary/common.hpp"

namespace bench {

template <class L>
heed::MatMulFreeLm<L> random_model(const heed::MatMulFreeConfig& config) {
  Ternaries weights(11);
  Gaussians numbers(12);
  std::vector<float> made;
  const auto tensor = [&](const char* name) -> heed::Result<heed::Tensor> {
    if (std::string(name) == "model.embeddings.weight") {
      made = random_rows(config.vocab_size, config.hidden_size, numbers);
      return heed::Tensor{made, config.vocab_size, config.hidden_size};
    }
    if (std::string(name) == "model.lower_bounds") {
      made.assign(std::size_t(config.num_hidden_layers * config.hidden_size), 0.0f);
      return heed::Tensor{made, config.num_hidden_layers, config.hidden_size};
    }
    made = random_gains(config.hidden_size, numbers);
    return heed::Tensor{made, 1, config.hidden_size};
  };
  const auto projection = [&](const char*, Index out, Index in) -> heed::Result<heed::BitLinear<L>> {
    return random_bit_linear<L>(out, in, weights, numbers);
  };
  return heed::value_or_throw(heed::MatMulFreeLm<L>::create(config, {tensor, projection}));
}

template <class L>
void run_model_of(const heed::MatMulFreeConfig& config, Index prompt, int repeats) {
  const auto start = std::chrono::steady_clock::now();
  const heed::MatMulFreeLm<L> model = random_model<L>(config);
  const std::chrono::duration<double> setup = std::chrono::steady_clock::now() - start;
  const auto parameters = double(config.ternary_parameters() + config.embedding_parameters());
  // What a token reads: everything but the embedding, of which it reads a row.
  const double read = double(model.bytes() - 2 * config.embedding_parameters());
  std::printf(
      "\n%s: %.1f MB of weights for %.1f M parameters, %.3f of 2 bytes a parameter; a token reads %.1f MB; state "
      "%lld bytes (made in %.0f s)\n",
      L::name, double(model.bytes()) * 1e-6, parameters * 1e-6, double(model.bytes()) / (2 * parameters), read * 1e-6,
      static_cast<long long>(config.state_bytes()), setup.count());

  std::vector<std::int32_t> ids;
  for (Index t = 0; t < prompt; ++t) ids.push_back(std::int32_t(t * 7919 % config.vocab_size));
  std::vector<float> logits(std::size_t(config.vocab_size)), expected(logits.size());
  heed::Workspace workspace;
  const auto run = [&]<class B>(heed::RecurrentState& state, std::span<const std::int32_t> tokens,
                                std::vector<float>& to, heed::ThreadPool& executor, B) {
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(tokens.size())));
    heed::check(model.template forward<B>(tokens, step, to, workspace, executor));
    heed::check(step.commit());
  };
  // Two tokens by plain loops and by the others, one by one; and some more at once, which unpacks weights.
  const auto few = std::span<const std::int32_t>(ids).first(std::size_t(std::min<Index>(prompt, 17)));
  const auto two = few.first(std::min<std::size_t>(few.size(), 2));
  const auto one_by_one = [&](heed::RecurrentState& state, std::span<const std::int32_t> tokens, heed::ThreadPool& on,
                              auto loops) {
    for (const std::int32_t& id : tokens) run(state, std::span(&id, 1), expected, on, loops);
  };
  heed::RecurrentState plain = heed::value_or_throw(model.make_state());
  one_by_one(plain, two, pool(thread_counts().back()), PlainLoops());
  const std::vector<float> of_two = expected;
  for (const Index threads : thread_counts()) {
    heed::ThreadPool& executor = pool(threads);
    heed::RecurrentState state = heed::value_or_throw(model.make_state());
    heed::RecurrentState stepped = heed::value_or_throw(state.fork());
    one_by_one(stepped, two, executor, Backend());
    check_same(expected, of_two, "decode of the MatMul-free LM");
    one_by_one(stepped, few.subspan(two.size()), executor, Backend());
    run(state, few, logits, executor, Backend());
    check_same(logits, expected, "prefill of the MatMul-free LM");

    const auto decode = [&] { run(state, std::span(ids).first(1), logits, executor, Backend()); };
    const Timing t = time_calls(repeats * 3, threads, Limit::read_dram, decode);
    std::printf("decode,  threads %lld: %8.2f ms, +-%.1f %%, %6.1f tokens/s, %5.1f GB/s, %5.1f %% of read bandwidth;",
                static_cast<long long>(threads), t.seconds * 1e3, 100 * t.spread, 1 / t.seconds,
                read / t.seconds * 1e-9, 100 * read / t.seconds * 1e-9 / t.limit);
    const Timing bf16 = time_bf16_model(config, threads, repeats);  // at once, because bandwidth drifts
    std::printf(" bf16 %.1f ms, +-%.1f %%, %.1f %% of it: %.1f times as long\n", bf16.seconds * 1e3, 100 * bf16.spread,
                200 * double(config.ternary_parameters()) / bf16.seconds * 1e-9 / bf16.limit, bf16.seconds / t.seconds);
    const auto prefill = [&] { run(state, ids, logits, executor, Backend()); };
    const Timing p = time_calls(std::max(repeats / 3, 1), threads, Limit::dot_int8, prefill);
    const double operations =
        2 * (double(config.ternary_parameters() - config.embedding_parameters()) * double(prompt) +
             double(config.embedding_parameters()));  // the head scores the last token alone
    std::printf("prefill, threads %lld: %8.2f ms, +-%.1f %%, %6.1f tokens/s, %5.0f GOP/s, %5.1f %% of the int8 peak\n",
                static_cast<long long>(threads), p.seconds * 1e3, 100 * p.spread, double(prompt) / p.seconds,
                operations / p.seconds * 1e-9, p.limit > 0 ? 100 * operations / p.seconds * 1e-9 / p.limit : 0.0);
    std::fflush(stdout);
  }
}

inline void run_model(const heed::MatMulFreeConfig& config, Index prompt, int repeats) {
  std::printf("\nMatMul-free LM, hidden %lld, %lld layers, inner %lld, vocabulary %lld; prompts of %lld tokens\n",
              static_cast<long long>(config.hidden_size), static_cast<long long>(config.num_hidden_layers),
              static_cast<long long>(config.intermediate_size), static_cast<long long>(config.vocab_size),
              static_cast<long long>(prompt));
  std::printf("bf16: the products alone with bf16 weights, two layers and the head measured, all layers worked out\n");
  heed::TernaryLayouts::for_each([&]<class L>() { run_model_of<L>(config, prompt, repeats); });
}

}  // namespace bench
