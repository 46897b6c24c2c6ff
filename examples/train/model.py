"""A byte-level, Llama-style decoder whose attention is chosen by name.

Everything but the attention is the same for every mechanism.  To add one:
write a module with the interface of `GroupedAttention`, and add a line to
MECHANISMS.  Parameter names are the Hugging Face Llama names.
"""

import json

import torch
import torch.nn.functional as F
from torch import nn

# The configuration shared by all mechanisms; keys follow Hugging Face.
BASE_CONFIG = {
    "vocab_size": 256,  # raw bytes
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "head_dim": 16,
    "intermediate_size": 352,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_layout": "half",  # rotate_half: dimension i pairs with i + head_dim / 2
    "tie_word_embeddings": True,
}


def rope_tables(n, dim, theta):
    """cos and sin of shape [n, dim]; the two halves of each row are equal."""
    inv_freq = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.outer(torch.arange(n, dtype=torch.float64), inv_freq)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().float(), angles.sin().float()


def apply_rope(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def causal_attention(q, k, v, block=128):
    """softmax(q k^T / sqrt(d)) v, [batch, heads, n, dim], a block of queries at
    a time: keys after the block are never touched."""
    n, scale = q.shape[2], q.shape[3] ** -0.5
    future = torch.ones(block, block, dtype=torch.bool).triu(1)
    out = []
    for begin in range(0, n, block):
        end = min(begin + block, n)
        scores = (q[:, :, begin:end] * scale) @ k[:, :, :end].transpose(2, 3)
        scores[:, :, :, begin:].masked_fill_(future[: end - begin, : end - begin], float("-inf"))
        out.append(scores.softmax(dim=-1) @ v[:, :, :end])
    return torch.cat(out, dim=2)


class GroupedAttention(nn.Module):
    """MHA, GQA and MQA: they differ in num_key_value_heads only."""

    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.dim = config["head_dim"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.q_proj = nn.Linear(width, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.dim, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, width, bias=False)

    def forward(self, x, cos, sin):
        b, n, _ = x.shape
        q = self.q_proj(x).view(b, n, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(b, n, self.kv_heads, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(b, n, self.kv_heads, self.dim).transpose(1, 2)
        q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
        group = self.heads // self.kv_heads  # query head h reads kv head h // group
        k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
        out = causal_attention(q, k, v)
        return self.o_proj(out.transpose(1, 2).reshape(b, n, self.heads * self.dim))


# name: (attention class, configuration it adds to BASE_CONFIG)
MECHANISMS = {
    "mha": (GroupedAttention, {"num_key_value_heads": 8}),
    "gqa": (GroupedAttention, {"num_key_value_heads": 2}),
    "mqa": (GroupedAttention, {"num_key_value_heads": 1}),
}


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class SwiGLU(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = RMSNorm(width, eps)
        self.self_attn = MECHANISMS[config["mechanism"]][0](config)
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.mlp = SwiGLU(config)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, depth = config["hidden_size"], config["num_hidden_layers"]
        self.embed_tokens = nn.Embedding(config["vocab_size"], width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(depth))
        self.norm = RMSNorm(width, config["rms_norm_eps"])


class LanguageModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        cos, sin = rope_tables(
            config["max_position_embeddings"], config["head_dim"], config["rope_theta"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.02 if "embed" in name else weight.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * config["num_hidden_layers"]) ** 0.5
                nn.init.normal_(weight, std=std)

    def forward(self, tokens):
        """Logits [batch, n, vocab] for tokens [batch, n]."""
        n = tokens.shape[1]
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, self.cos[:n], self.sin[:n])
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)  # tied


def make_config(mechanism):
    return {"mechanism": mechanism, **BASE_CONFIG, **MECHANISMS[mechanism][1]}


def from_tensors(tensors, metadata):
    """The model of a weight file, in float32."""
    model = LanguageModel(json.loads(metadata["config"]))
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()
