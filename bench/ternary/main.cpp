// Layers and whole models of ternary weights beside the limits of the machine. Every answer is checked before it is timed.
#include <CLI/CLI.hpp>

#include "program/program.hpp"
#include "ternary/mlgru.hpp"
#include "ternary/model.hpp"

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of MLGRU and of the MatMul-free LM, with random weights.");
  std::string part = "all", shape = "2.7B";
  bench::Index prompt = 128;
  int repeats = 9;
  bool corrupt = false;
  app.add_option("--part", part, "mlgru, model or all")
      ->check(CLI::IsMember({"mlgru", "model", "all"}))
      ->capture_default_str();
  app.add_option("--shape", shape, "The model's: tiny, 370M, 1.3B or 2.7B")
      ->check(CLI::IsMember({"tiny", "370M", "1.3B", "2.7B"}))
      ->capture_default_str();
  app.add_option("--prompt", prompt, "Tokens to prefill")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--repeats", repeats, "Of what takes longest; more of the rest")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--corrupt", corrupt, "Make every check see a wrong number, to see it fail");
  return heed_examples::run_program("heed_ternary_bench", app, argc, argv, [&] {
    if (corrupt) bench::corrupt_checks();
    constexpr heed::MatMulFreeConfig tiny{
        .vocab_size = 96, .hidden_size = 64, .num_hidden_layers = 2, .intermediate_size = 192};
    std::printf("heed %s, %s loops for %s\n", heed::version_string(), bench::Backend::Ternary::name, heed::isa_name());
    if (part == "mlgru" || part == "all") bench::run_mlgru(repeats);
    if (part == "model" || part == "all") {
      bench::run_model(shape == "tiny"   ? tiny
                       : shape == "370M" ? heed::matmulfree_370m
                       : shape == "1.3B" ? heed::matmulfree_1_3b
                                         : heed::matmulfree_2_7b,
                       prompt, repeats);
    }
    return heed_examples::exit_ok;
  });
}
