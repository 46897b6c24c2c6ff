// expect: must return nothing, or bool
#include <vector>

#include <heed/speculative/decode.hpp>

struct Model {
  heed::Index vocab_size();
  heed::Result<std::span<const heed::Token>> draft(heed::Token, heed::Index);
  heed::Result<std::span<const float>> verify(std::span<const heed::Token>);
  heed::Status commit(heed::Index);
};

int main() {
  Model model;
  std::vector<heed::Token> text;
  const auto made = heed::speculate_greedy(model, 1, 10, 3, [&](heed::Token token) {
    text.push_back(token);
    return 0;
  });
  return made.ok() ? 0 : 1;
}
