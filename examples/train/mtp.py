"""Multi-token prediction: DeepSeek-V3's module, under the names of its files.

Slot i pairs the main model's hidden h_i, taken after its last norm, with the
byte that follows, t_{i+1}, and predicts t_{i+2}.  It has RoPE position i.
Embedding and head are the main model's.  No slot is special: the embedding in
slot 0 is not zeroed, as some engines do.

A model that drafts has `main`, a Llama, and `mtp`, a NextTokenLayer.
"""

import torch
import torch.nn.functional as F
from torch import nn

from llama import Layer, SwiGLU
from norm import RMSNorm


class NextTokenLayer(Layer):
    """One more layer of the main model's kind, and what feeds and reads it."""

    def __init__(self, attention, config, mlp=SwiGLU):
        super().__init__(attention, config, mlp)
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.enorm = RMSNorm(width, eps)
        self.hnorm = RMSNorm(width, eps)
        self.eh_proj = nn.Linear(2 * width, width, bias=False)
        self.shared_head = nn.ModuleDict({"norm": RMSNorm(width, eps)})

    def forward(self, embedding, hidden):
        """What the head reads, and what the slot after a draft gets as hidden:
        in both cases after shared_head.norm."""
        # The paper writes the hidden first, the released weights have it second.
        pair = torch.cat([self.enorm(embedding), self.hnorm(hidden)], dim=-1)
        return self.shared_head["norm"](super().forward(self.eh_proj(pair), None))


class NextTokenHead(nn.Module):
    """The module alone, for a main model that has a file of its own and is left
    as it is: `main` is no part of the parameters."""

    def __init__(self, main, attention, config):
        super().__init__()
        self.config = config
        self.frozen = (main.requires_grad_(False),)
        index = str(config["num_hidden_layers"])  # named as the layer after the last
        self.model = nn.ModuleDict({"layers": nn.ModuleDict({
            index: NextTokenLayer(attention, config)})})

    @property
    def main(self):
        return self.frozen[0]

    @property
    def mtp(self):
        return next(iter(self.model["layers"].values()))

    def _apply(self, change):
        self.main._apply(change)  # a change of dtype is for both
        return super()._apply(change)


def slots(net, hidden, following):
    """The module's output for hiddens [batch, n, width] and the bytes after each."""
    return net.mtp(net.main.model.embed_tokens(following), hidden)


def slot_loss(net, out, targets):
    return F.cross_entropy(net.main.head(out).float().flatten(0, 1), targets.flatten())


def next_next_loss(net, hidden, targets):
    """For the byte after the next; also returns what the slots gave out."""
    out = slots(net, hidden[:, :-1], targets[:, :-1])
    return slot_loss(net, out, targets[:, 1:]), out


def recycled_loss(net, out, targets):
    """For the draft after a draft: its hidden is the module's own of the slot before.
    Here so are the hiddens of all slots it sees; when drafting, of the drafted ones."""
    again = slots(net, out[:, :-1], targets[:, 1:-1])
    return slot_loss(net, again, targets[:, 2:])


def frozen_losses(net, inputs, targets, recycled):
    """Terms of the loss, (weight, value) by name, of a module whose main model
    is not trained."""
    with torch.no_grad():
        hidden = net.main.hidden(inputs)
    loss, out = next_next_loss(net, hidden, targets)
    terms = {"mtp": (1.0, loss)}
    if recycled:
        terms["recycled"] = (recycled, recycled_loss(net, out, targets))
    return terms
