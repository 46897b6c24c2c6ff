// How wrong attention is, in every codec and math, on several kinds of data: what a table of speeds does not show.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <vector>

#include <heed/codec/codecs.hpp>
#include <heed/compiled.hpp>
#include <heed/config.hpp>
#include <heed/math/maths.hpp>
#include <heed/simd/backends.hpp>

#include "errors/data.hpp"
#include "errors/errors_of.hpp"
#include "program/program.hpp"

namespace {

using bench::Index;

struct Options {
  Index queries = 16, keys = 4096, dim = 128;
  bool corrupt = false;
};

/// Prints one line of the table. Returns false if an answer was wrong.
template <class C, class Math>
bool print_line(const std::vector<bench::StoredCase<C>>& cases, bool corrupt) {
  const heed::Kernel& kernel = heed::kernel<heed::Backends::First, C, C, Math>();
  std::printf("| %s | %s |", C::name, Math::name);
  double worst = 0;
  for (const bench::StoredCase<C>& stored : cases) {
    const bench::Errors errors = stored.errors(kernel, corrupt);
    std::printf(" %.1e, %.1e |", errors.whole, errors.arithmetic);
    worst = errors.bound <= worst ? worst : errors.bound;  // a NaN is the worst
  }
  std::printf(" %.3f |\n", worst);
  if (worst <= 1) return true;
  std::fprintf(stderr, "wrong answer: rows in %s, math %s: the error is %g of what is permitted\n", C::name, Math::name,
               worst);
  return false;
}

bool print_table(const Options& options) {
  std::vector<bench::Case> cases;
  std::printf("| rows | math |");
  for (const bench::DataKind& kind : bench::data_kinds) {
    std::printf(" %s |", kind.name);
    cases.emplace_back(kind, options.queries, options.keys, options.dim);
  }
  std::printf(" of bound |\n|---|---|");
  for (std::size_t i = 0; i <= cases.size(); ++i) std::printf("---|");
  std::printf("\n");
  bool right = true;
  heed::Codecs::for_each([&]<class C>() {
    const std::vector<bench::StoredCase<C>> stored(cases.begin(), cases.end());
    heed::Maths::for_each([&]<class Math>() { right = print_line<C, Math>(stored, options.corrupt) && right; });
  });
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Errors of attention's outputs, relative to their root mean square: against float64 attention over the numbers "
      "that "
      "were given, and over the numbers as they are stored.");
  Options options;
  app.add_option("--queries", options.queries, "Queries, which see all keys")
      ->check(heed_examples::whole_number(1, 1024))
      ->capture_default_str();
  app.add_option("--keys", options.keys, "Keys")->check(heed_examples::whole_number(2, 1 << 20))->capture_default_str();
  app.add_option("--dim", options.dim, "Numbers of a row")
      ->check(heed_examples::whole_number(1, 4096))
      ->capture_default_str();
  app.add_flag("--corrupt", options.corrupt, "Spoil an output of each answer, to see that it is noticed");
  return heed_examples::run_program("heed_error_bench", app, argc, argv, [&] {
    std::printf("heed %s, %s loops for %s; %lld queries, %lld keys, rows of %lld numbers\n\n", heed::version_string(),
                heed::Backends::First::name, heed::isa_name(), (long long)options.queries, (long long)options.keys,
                (long long)options.dim);
    return print_table(options) ? heed_examples::exit_ok : heed_examples::exit_failure;
  });
}
