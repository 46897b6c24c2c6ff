/// \file
/// The rope_* options of a case, as a heed::Rope and as the oracle's frequencies.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <heed/rope/rope.hpp>

#include "golden/case.hpp"
#include "oracle/layer.hpp"
#include "oracle/yarn.hpp"

namespace heed_golden {

/// A rotation of the first rotary_dim numbers of a row; nothing if the layout is "none".
struct RotationPair {
  std::optional<heed::Rope> rope;
  oracle::Rotation exact;
  double softmax_factor = 1;  ///< what YaRN does to the softmax scale
};

inline std::optional<heed::Yarn> read_yarn(Config& scaling) {
  scaling.expect("type", "yarn");
  scaling.expect("rope_type", "yarn");
  heed::Yarn yarn{.factor = scaling.get<double>("factor"),
                  .original_max_position = scaling.get<Int>("original_max_position_embeddings")};
  yarn.beta_fast = scaling.get_or("beta_fast", yarn.beta_fast);
  yarn.beta_slow = scaling.get_or("beta_slow", yarn.beta_slow);
  yarn.mscale = scaling.get_or("mscale", yarn.mscale);
  yarn.mscale_all_dim = scaling.get_or("mscale_all_dim", yarn.mscale_all_dim);
  return yarn;
}

/// The rotation of rows of `head_dim` numbers; `layout` is what the case calls it.
inline RotationPair read_rotation(Config& config, Int head_dim, const std::string& layout) {
  RotationPair pair;
  heed::RopeOptions options{.head_dim = head_dim};
  options.rotary_dim = config.get_or<Int>("rotary_dim", layout.starts_with("none") ? 0 : head_dim);
  options.theta = config.get_or<double>("rope_theta", 0);
  if (const auto json = config.maybe<nlohmann::json>("rope_scaling")) {
    Config scaling(*json);
    const auto type = scaling.get<std::string>(json->contains("type") ? "type" : "rope_type");
    if (type == "linear") {
      options.linear_factor = scaling.get<double>("factor");
    } else {
      options.yarn = read_yarn(scaling);
    }
    scaling.finish();
  }
  if (layout.starts_with("none")) {
    if (options.rotary_dim != 0) throw Unusable("rope_layout is none, but rotary_dim is not 0");
    return pair;
  }
  if (options.rotary_dim == 0) return pair;
  pair.exact.interleaved = layout.starts_with("interleaved");
  if (!pair.exact.interleaved && !layout.starts_with("half")) throw Unusable("rope_layout is unknown: " + layout);
  options.layout = pair.exact.interleaved ? heed::RopeLayout::interleaved : heed::RopeLayout::half_split;
  pair.rope = heed::value_or_throw(heed::Rope::create(options));
  if (options.yarn) {
    const heed::Yarn& y = *options.yarn;
    const oracle::YarnScaling scaling{
        y.factor, double(y.original_max_position), y.beta_fast, y.beta_slow, y.mscale, y.mscale_all_dim};
    pair.exact.frequencies = oracle::yarn_frequencies(options.rotary_dim, options.theta, scaling);
    pair.exact.amplitude = oracle::yarn_amplitude(scaling);
    pair.softmax_factor = oracle::yarn_softmax_factor(scaling);
  } else {
    pair.exact.frequencies = oracle::rope_frequencies(options.rotary_dim, options.theta);
    for (double& f : pair.exact.frequencies) f /= options.linear_factor;
  }
  return pair;
}

inline RotationPair read_rotation(Config& config, Int head_dim) {
  return read_rotation(config, head_dim, config.get_or<std::string>("rope_layout", "none"));
}

}  // namespace heed_golden
