// What forgetting costs and saves: prefill under sparse masks, decode from caches that evict, streams of millions of
// tokens. Every part checks an answer against float64 before it prints.
#include <CLI/CLI.hpp>

#include "program/program.hpp"
#include "retention/decode.hpp"
#include "retention/prefill.hpp"
#include "retention/stream.hpp"

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of caches that forget.");
  std::string part = "all", text = std::string(HEED_SOURCE_DIR) + "/examples/data/heldout.txt";
  bench::Index tokens = 4'000'000, prompt = 8192;
  int repeats = 5;
  app.add_option("--part", part, "prefill, decode, stream or all")
      ->check(CLI::IsMember({"prefill", "decode", "stream", "all"}))
      ->capture_default_str();
  app.add_option("--tokens", tokens, "Tokens to stream")->check(CLI::Range(20000, 2000000000))->capture_default_str();
  app.add_option("--prompt", prompt, "Tokens to prefill")->check(CLI::Range(64, 65536))->capture_default_str();
  app.add_option("--repeats", repeats, "Runs of each prefill")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--text", text, "Text to stream");
  return heed_examples::run_program("heed_retention_bench", app, argc, argv, [&] {
    const bench::TextTokens words(text);
    std::printf("heed %s, %s loops for %s\n", heed::version_string(), bench::Backend::name, heed::isa_name());
    if (part == "prefill" || part == "all") bench::run_prefill(prompt, repeats);
    if (part == "decode" || part == "all") bench::run_decode(words);
    if (part == "stream" || part == "all") bench::run_streams(words, tokens);
    return heed_examples::exit_ok;
  });
}
