"""A mixture of experts, under the Hugging Face DeepSeek-V3 names.

No loss asks for balance: each expert has a bias that is used for choosing only,
and goes up by a little after a step in which the expert had less than its share
of the tokens, down if it had more (arXiv 2408.15664).  The gate is that of V3:
`scoring_func` sigmoid, `topk_method` noaux_tc, `norm_topk_prob` true.
"""

import torch
import torch.nn.functional as F
from torch import nn

from drafts import teacher_forced
from llama import SwiGLU

BIAS_STEP = 1e-3
TINY = 1e-20  # in the published code, lest a sum of scores be zero


class Gate(nn.Module):
    def __init__(self, config):
        super().__init__()
        experts, width = config["n_routed_experts"], config["hidden_size"]
        self.groups, self.kept_groups = config["n_group"], config["topk_group"]
        self.kept = config["num_experts_per_tok"]
        self.factor = config["routed_scaling_factor"]
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.e_score_correction_bias = nn.Parameter(torch.zeros(experts), requires_grad=False)

    def forward(self, x):
        """What each expert's output counts [batch, n, experts]: 0 for most."""
        with torch.autocast("cpu", enabled=False):  # the choice is made in float32
            scores = F.linear(x, self.weight).sigmoid()
        # Kept for `balance` and for what is measured: the last call's.
        self.chosen, self.gap = self.choose(scores.detach() + self.e_score_correction_bias)
        weights = scores * self.chosen  # the bias is not in them
        return weights / (weights.sum(-1, keepdim=True) + TINY) * self.factor

    def choose(self, biased):
        """(which experts, how far the choice is from another), per token.  A group
        counts what its two best have together; others than the best groups' do
        not come into question, whatever their sign."""
        grouped = biased.unflatten(-1, (self.groups, -1))
        groups, group_gap = best(grouped.topk(2).values.sum(-1), self.kept_groups)
        biased = grouped.masked_fill(~groups[..., None], float("-inf")).flatten(-2)
        experts, gap = best(biased, self.kept)
        return experts, torch.minimum(gap, group_gap)


def best(values, count):
    """(which are the `count` greatest, by how much they are ahead of the rest)."""
    top = values.topk(min(count + 1, values.shape[-1]))
    which = torch.zeros_like(values, dtype=torch.bool)
    which.scatter_(-1, top.indices[..., :count], True)
    if count == values.shape[-1]:
        return which, torch.full_like(values[..., 0], float("inf"))
    return which, top.values[..., -2] - top.values[..., -1]


class MixtureOfExperts(nn.Module):
    """All experts compute for all tokens, and most results count nothing: at this
    size that is less work than sorting tokens by expert."""

    def __init__(self, config):
        super().__init__()
        inner = config["moe_intermediate_size"]
        self.gate = Gate(config)
        expert = {**config, "intermediate_size": inner}
        self.experts = nn.ModuleList(SwiGLU(expert) for _ in range(config["n_routed_experts"]))
        shared = {**config, "intermediate_size": inner * config["n_shared_experts"]}
        self.shared_experts = SwiGLU(shared)

    def forward(self, x):
        gate = F.linear(x, torch.cat([e.gate_proj.weight for e in self.experts]))
        up = F.linear(x, torch.cat([e.up_proj.weight for e in self.experts]))
        inner = (F.silu(gate) * up).unflatten(-1, (len(self.experts), -1))
        inner = (inner * self.gate(x)[..., None]).flatten(-2)
        down = torch.cat([e.down_proj.weight for e in self.experts], dim=1)
        return F.linear(inner, down) + self.shared_experts(x)


def gates(net):
    return [module for module in net.modules() if isinstance(module, Gate)]


@torch.no_grad()
def balance(net):
    for gate in gates(net):
        load = gate.chosen.flatten(0, -2).sum(0, dtype=torch.float32)
        gate.e_score_correction_bias += BIAS_STEP * (load.mean() - load).sign()


@torch.no_grad()
def shares(net, windows):
    """Per gate, the share of its choices that went to each expert."""
    load = 0
    for tokens in windows:
        teacher_forced(net, tokens[None, :-1])
        load = load + torch.stack([gate.chosen.flatten(0, -2).sum(0) for gate in gates(net)])
    return (load / load.sum(-1, keepdim=True)).tolist()


def expected(net, prompt, greedy):
    """What an implementation must reproduce, as tensors: the experts, in ascending
    order, of each byte of the prompt in the main model and of each slot of it in
    the module; and how near the choices came to others, per gate, over the prompt
    and, in the main model, the bytes that follow it."""
    teacher_forced(net, torch.cat([prompt, greedy]).long()[None])
    gaps = [gate.gap[0] for gate in gates(net)]
    gaps[-1] = gaps[-1][: len(prompt) - 1]
    chosen = [gate.chosen[0].nonzero()[:, 1].unflatten(0, (-1, gate.kept)).to(torch.uint8)
              for gate in gates(net)]
    return {"experts": torch.stack([c[: len(prompt)] for c in chosen[:-1]]),
            "mtp_experts": chosen[-1][: len(prompt) - 1],
            "routing_gap": torch.stack([gap.min() for gap in gaps])}
