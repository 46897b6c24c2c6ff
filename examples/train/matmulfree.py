"""The MatMul-free language model (arXiv 2406.02528), under the names of its
published files, in the configuration they have: one head, no expansion, no
short convolution, lower bounds, and a gate that norms the projection, not the
state (`norm_gate_swish_h`; the paper prints another).
"""

import torch
import torch.nn.functional as F
from torch import nn

from bitlinear import BitLinear
from norm import RMSNorm
from recurrence import recurrence


class MLGRU(nn.Module):
    """The token mixer: one state of the model's width, forgotten element by element."""

    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.i_proj = BitLinear(width, width, config)
        self.f_proj = BitLinear(width, width, config)
        self.g_proj = BitLinear(width, width, config)
        self.g_norm = RMSNorm(width, config["rms_norm_eps"])
        self.o_proj = BitLinear(width, width, config)

    def forward(self, x, lower_bound):
        f = lower_bound + (1 - lower_bound) * self.f_proj(x).sigmoid()
        h = recurrence(f, F.silu(self.i_proj(x)) * (1 - f))
        return self.o_proj(self.g_norm(self.g_proj(x)) * F.silu(h))


class GLU(nn.Module):
    """The channel mixer: SwiGLU whose gate and up matrices are one, gate first."""

    def __init__(self, config):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = BitLinear(width, 2 * inner, config)
        self.down_proj = BitLinear(inner, width, config)

    def forward(self, x):
        gate, up = self.gate_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.attn_norm = RMSNorm(width, eps)
        self.attn = MLGRU(config)
        self.mlp_norm = RMSNorm(width, eps)
        self.mlp = GLU(config)

    def forward(self, x, lower_bound):
        x = x + self.attn(self.attn_norm(x), lower_bound)
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, depth = config["hidden_size"], config["num_hidden_layers"]
        self.embeddings = nn.Embedding(config["vocab_size"], width)
        self.lower_bounds = nn.Parameter(torch.zeros(depth, width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(depth))
        self.norm = RMSNorm(width, config["rms_norm_eps"])

    def forward(self, tokens):
        shares = self.lower_bounds.softmax(dim=0)
        bounds = shares.cumsum(dim=0) - shares[0]  # 0 in the first layer, below 1 in the last
        x = self.embeddings(tokens)
        for layer, bound in zip(self.layers, bounds):
            x = layer(x, bound)
        return self.norm(x)


class MatMulFree(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = BitLinear(config["hidden_size"], config["vocab_size"], config)

    def forward(self, tokens):
        """Logits [batch, n, vocab] for tokens [batch, n]."""
        return self.lm_head(self.model(tokens))
