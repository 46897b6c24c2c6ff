"""A Llama-style decoder, under the Hugging Face names; its attention is given.

Each attention says whose names it has.
"""

import torch.nn.functional as F
from torch import nn

from masks import visible_mask
from norm import RMSNorm


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
    def __init__(self, attention, config, mlp=SwiGLU):
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = RMSNorm(width, eps)
        self.self_attn = attention(config)
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.mlp = mlp(config)

    def forward(self, x, visible):
        x = x + self.self_attn(self.input_layernorm(x), visible)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, layers, config):
        super().__init__()
        width = config["hidden_size"]
        self.embed_tokens = nn.Embedding(config["vocab_size"], width)
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(width, config["rms_norm_eps"])


class Llama(nn.Module):
    def __init__(self, attention, config):
        super().__init__()
        self.config = config
        self.depth = config["num_hidden_layers"]
        self.model = Decoder(self.layers(attention, config), config)

    def layers(self, attention, config):
        """Those of the decoder; layers after `depth` of them are no part of it."""
        return (Layer(attention, config) for _ in range(self.depth))

    def hidden(self, tokens):
        """What the head reads, after the last norm: [batch, n, width]."""
        visible = visible_mask(self.config.get("retention"), tokens)
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers[: self.depth]:
            x = layer(x, visible)
        return self.model.norm(x)

    def head(self, hidden):
        return F.linear(hidden, self.model.embed_tokens.weight)  # tied

    def forward(self, tokens):
        """Logits [batch, n, vocab] for tokens [batch, n]."""
        return self.head(self.hidden(tokens))
