"""MFA, under the Step-3 names, and MFA-KR."""

import torch
import torch.nn.functional as F
from torch import nn

from causal import causal_attention
from norm import RMSNorm
from rope import Rope


class FactorizedAttention(nn.Module):
    """Query heads come out of one normed latent; all read one head of keys and values."""

    def __init__(self, config):
        super().__init__()
        width, q_latent = config["hidden_size"], config["share_q_dim"]
        self.dim = config["head_dim"]
        self.heads = config["num_attention_heads"]
        self.rope = Rope(config, self.dim)
        self.q_proj = nn.Linear(width, q_latent, bias=False)
        self.inter_norm = RMSNorm(q_latent, config["rms_norm_eps"])
        self.wq = nn.Linear(q_latent, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(width, self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, width, bias=False)
        self.add_value(width)

    def add_value(self, width):
        self.v_proj = nn.Linear(width, self.dim, bias=False)

    def value(self, x, k):
        """The value, from the input and the key before it is rotated."""
        return self.v_proj(x)

    def forward(self, x, visible=None):
        b, n, _ = x.shape
        q = self.wq(self.inter_norm(self.q_proj(x)))
        q = q.view(b, n, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x)
        v = self.value(x, k)
        out = causal_attention(self.rope(q), self.rope(k)[:, None], v[:, None], visible)
        return self.o_proj(out.transpose(1, 2).reshape(b, n, self.heads * self.dim))


class KeyReuseAttention(FactorizedAttention):
    """MFA-KR: the value is made of the key, v = k + alpha * (N k)."""

    def add_value(self, width):
        self.alpha = nn.Parameter(torch.zeros(self.dim))  # starts as v = k
        self.n = nn.Parameter(torch.empty(self.dim, self.dim))

    def value(self, x, k):
        return k + self.alpha * F.linear(k, self.n)
