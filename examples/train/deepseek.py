"""A DeepSeek-V3: MLA, mixtures of experts, and a module that predicts one more
byte, trained together."""

from llama import Layer, Llama, SwiGLU
from moe import MixtureOfExperts
from mtp import NextTokenLayer, next_next_loss, slot_loss

MTP_WEIGHT = 0.3


class DeepSeek(Llama):
    def layers(self, attention, config):
        dense = config["first_k_dense_replace"]
        for index in range(self.depth):
            yield Layer(attention, config, SwiGLU if index < dense else MixtureOfExperts)
        yield NextTokenLayer(attention, config, MixtureOfExperts)

    @property
    def main(self):
        return self

    @property
    def mtp(self):
        return self.model.layers[-1]


def joint_losses(net, inputs, targets):
    """Terms of the loss, (weight, value) by name."""
    hidden = net.hidden(inputs)
    following, _ = next_next_loss(net, hidden, targets)
    return {"train": (1.0, slot_loss(net, hidden, targets)), "mtp": (MTP_WEIGHT, following)}
