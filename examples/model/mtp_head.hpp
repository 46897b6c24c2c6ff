/// \file
/// A multi-token prediction module on top of a decoder: heed::MtpModule around one decoder layer with a cache of its own.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <heed/layer/mtp.hpp>

#include "model/backend.hpp"
#include "model/decoder.hpp"

namespace heed_examples {

/// The config of an MTP module of `config`'s model: its one layer is the file's layer after the last one.
[[nodiscard]] inline ModelConfig mtp_config(ModelConfig config) {
  (void)config.keys.integer("num_nextn_predict_layers", 1, 1);
  config.first_layer = config.num_layers;
  config.num_layers = 1;
  return config;
}

/// Guesses the byte after the next one. Slot i pairs hidden i of the decoder with byte i + 1. Shares the decoder's
/// embedding and head, which must outlive it.
class MtpHead {
 public:
  /// `config` as mtp_config() makes it; `make_mixer(tensors)` takes the mixer's tensors.
  MtpHead(const ModelConfig& config, TensorReader& tensors, const Decoder& decoder, const ModelOptions& options,
          const std::function<std::unique_ptr<Mixer>(TensorReader&)>& make_mixer)
      : width_(config.hidden_size),
        decoder_(decoder),
        combine_(options.backend->combine),
        executor_(*options.executor),
        module_(make_module(config, tensors)),
        layer_(config, tensors, config.first_layer),
        mixer_(make_mixer(tensors)) {}

  /// Appends slots: row i of `hiddens` with bytes[i]. Logits of the byte after each; hidden() has what made them.
  const Matrix& extend(const Matrix& hiddens, std::span<const std::int32_t> bytes) {
    const auto slots = heed::Index(bytes.size());
    embedded_.resize(slots, width_);
    for (heed::Index i = 0; i < slots; ++i) embedded_.row(i) = decoder_.embedding().row(bytes[std::size_t(i)]);
    positions_.clear();
    for (heed::Index i = 0; i < slots; ++i) positions_.push_back(this->slots() + i);
    x_.resize(slots, width_);
    heed::check(combine_(module_, numbers(embedded_), numbers(hiddens), positions_,
                         {x_.data(), std::size_t(x_.size())}, workspace_, executor_));
    mixer_->begin(bytes);
    layer_.forward(*mixer_, 0, x_);
    mixer_->commit(slots);
    hidden_.resize(slots, width_);
    heed::check(module_.finish(numbers(x_), {hidden_.data(), std::size_t(hidden_.size())}));
    linear(hidden_, decoder_.head(), logits_);
    return logits_;
  }
  /// After shared_head.norm: what the next draft is made from.
  [[nodiscard]] const Matrix& hidden() const { return hidden_; }

  [[nodiscard]] heed::Index slots() const { return mixer_->bytes().seen; }
  void truncate(heed::Index slots) { mixer_->truncate(slots); }

 private:
  [[nodiscard]] static std::span<const float> numbers(const Matrix& m) { return {m.data(), std::size_t(m.size())}; }

  [[nodiscard]] static heed::MtpModule make_module(const ModelConfig& config, TensorReader& tensors) {
    const std::string name = "model.layers." + std::to_string(config.first_layer) + ".";
    const heed::Index width = config.hidden_size;
    const Vector enorm = tensors.vector(name + "enorm.weight", width);
    const Vector hnorm = tensors.vector(name + "hnorm.weight", width);
    const Vector head_norm = tensors.vector(name + "shared_head.norm.weight", width);
    const Matrix eh_proj = tensors.matrix(name + "eh_proj.weight", width, 2 * width);
    const auto row = [width](const Vector& v) { return heed::Tensor{{v.data(), std::size_t(width)}, 1, width}; };
    return heed::value_or_throw(
        heed::MtpModule::create({.hidden_size = width,
                                 .rms_norm_eps = double(config.rms_norm_eps),
                                 .zero_first_embedding = config.keys.flag("mtp_zero_first_embedding")},
                                {row(enorm), row(hnorm), {numbers(eh_proj), width, 2 * width}, row(head_norm)}));
  }

  heed::Index width_;
  const Decoder& decoder_;
  CombineMtp combine_;
  heed::ThreadPool& executor_;
  heed::MtpModule module_;
  DecoderLayer layer_;
  std::unique_ptr<Mixer> mixer_;
  heed::Workspace workspace_;
  std::vector<heed::Index> positions_;
  Matrix embedded_, x_, hidden_, logits_;
};

}  // namespace heed_examples
