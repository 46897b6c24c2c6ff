"""MLA, under the Hugging Face DeepSeek names."""

import torch
from torch import nn

from causal import causal_attention
from norm import RMSNorm
from rope import Rope


class LatentAttention(nn.Module):
    """Every token leaves a normed latent and one rotated key part shared by all
    heads.  This is the naive form, which expands the latent into keys and values."""

    def __init__(self, config):
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.heads = config["num_attention_heads"]
        self.latent = config["kv_lora_rank"]
        self.nope = config["qk_nope_head_dim"]
        self.rope_dim = config["qk_rope_head_dim"]
        self.v_dim = config["v_head_dim"]
        self.rope = Rope(config, self.rope_dim)
        q_latent = config["q_lora_rank"]
        self.q_a_proj = nn.Linear(width, q_latent, bias=False)
        self.q_a_layernorm = RMSNorm(q_latent, eps)
        self.q_b_proj = nn.Linear(q_latent, self.heads * (self.nope + self.rope_dim), bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(width, self.latent + self.rope_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(self.latent, eps)
        self.kv_b_proj = nn.Linear(self.latent, self.heads * (self.nope + self.v_dim), bias=False)
        self.o_proj = nn.Linear(self.heads * self.v_dim, width, bias=False)

    def forward(self, x, visible=None):
        b, n, _ = x.shape
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.view(b, n, self.heads, self.nope + self.rope_dim).transpose(1, 2)
        q_nope, q_rope = q.split([self.nope, self.rope_dim], dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.latent, self.rope_dim], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent))
        kv = kv.view(b, n, self.heads, self.nope + self.v_dim).transpose(1, 2)
        k_nope, v = kv.split([self.nope, self.v_dim], dim=-1)
        k_rope = self.rope(k_rope)[:, None].expand(b, self.heads, n, self.rope_dim)
        q = torch.cat([q_nope, self.rope(q_rope)], dim=-1)
        out = causal_attention(q, torch.cat([k_nope, k_rope], dim=-1), v, visible)
        return self.o_proj(out.transpose(1, 2).reshape(b, n, self.heads * self.v_dim))
