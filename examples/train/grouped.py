"""MHA, GQA and MQA, under the Hugging Face Llama names."""

from torch import nn

from causal import causal_attention
from rope import Rope


class GroupedAttention(nn.Module):
    """They differ in num_key_value_heads only."""

    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.dim = config["head_dim"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.rope = Rope(config, self.dim)
        self.q_proj = nn.Linear(width, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.dim, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, width, bias=False)

    def forward(self, x, visible=None):
        b, n, _ = x.shape
        q = self.q_proj(x).view(b, n, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(b, n, self.kv_heads, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(b, n, self.kv_heads, self.dim).transpose(1, 2)
        q, k = self.rope(q), self.rope(k)
        group = self.heads // self.kv_heads  # query head h reads kv head h // group
        k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
        out = causal_attention(q, k, v, visible)
        return self.o_proj(out.transpose(1, 2).reshape(b, n, self.heads * self.dim))
