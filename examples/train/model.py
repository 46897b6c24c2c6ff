"""A byte-level, Llama-style decoder whose attention is chosen by name.

Everything but the attention is the same for every mechanism.  To add one:
write a module with the interface of `GroupedAttention`, and add a line to
MECHANISMS.  Parameter names are the Hugging Face Llama names; each attention
says whose names it has.
"""

import json

import torch.nn.functional as F
from torch import nn

from grouped import GroupedAttention
from masks import visible_mask
from mfa import FactorizedAttention, KeyReuseAttention
from mla import LatentAttention
from norm import RMSNorm

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
    "rope_layout": "half",  # or "interleaved": see rope.py
    "tie_word_embeddings": True,
}


# name: (attention class, what its configuration adds to BASE_CONFIG or changes).
# Ranks are such that all but GQA and MQA have nearly the parameters of MHA.
MECHANISMS = {
    "mha": (GroupedAttention, {"num_key_value_heads": 8}),
    "gqa": (GroupedAttention, {"num_key_value_heads": 2}),
    "mqa": (GroupedAttention, {"num_key_value_heads": 1}),
    # As in the DeepSeek files: pairs are interleaved, head_dim is that of the rotated part.
    "mla": (LatentAttention, {
        "rope_layout": "interleaved", "q_lora_rank": 72, "kv_lora_rank": 48,
        "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16}),
    "mfa": (FactorizedAttention, {"head_dim": 32, "share_q_dim": 64}),
    "mfa_kr": (KeyReuseAttention, {"head_dim": 32, "share_q_dim": 72}),
    # MHA under a retention mask: see masks.py.  The ids are bytes.
    "mha_ansan": (GroupedAttention, {"num_key_value_heads": 8, "retention": {
        "rule": "anchors", "anchor_ids": sorted(b"\n."), "anchor_sees_anchors": False}}),
    "mha_sepllm": (GroupedAttention, {"num_key_value_heads": 8, "retention": {
        "rule": "separators", "initial": 3, "window": 64,
        "separator_ids": sorted(b".,;:?!\n")}}),
}


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

    def forward(self, x, visible):
        x = x + self.self_attn(self.input_layernorm(x), visible)
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
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.02 if "embed" in name else weight.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * config["num_hidden_layers"]) ** 0.5
                nn.init.normal_(weight, std=std)

    def forward(self, tokens):
        """Logits [batch, n, vocab] for tokens [batch, n]."""
        visible = visible_mask(self.config.get("retention"), tokens)
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, visible)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)  # tied


def make_config(mechanism):
    return {"mechanism": mechanism, **BASE_CONFIG, **MECHANISMS[mechanism][1]}


def from_tensors(tensors, metadata):
    """The model of a weight file, in float32."""
    model = LanguageModel(json.loads(metadata["config"]))
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()
