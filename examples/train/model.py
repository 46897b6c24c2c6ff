"""The byte-level language models, by the name of their mechanism.

To add an attention: write a module with the interface of `GroupedAttention`,
and add a line to MECHANISMS; everything else of the decoder is `llama.py`.  A
model that is no Llama is a class of its own, as in `matmulfree.py`.
"""

import json
from functools import partial

import torch
from torch import nn

import data
import safetensors_io
from deepseek import DeepSeek
from grouped import GroupedAttention
from llama import Llama
from matmulfree import MatMulFree
from mfa import FactorizedAttention, KeyReuseAttention
from mla import LatentAttention
from mtp import NextTokenHead

# The configuration shared by all attention mechanisms; keys follow Hugging Face.
LLAMA_CONFIG = {
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

# Keys of the published files.
MATMULFREE_CONFIG = {
    "vocab_size": 256,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_heads": 1,
    "expand_ratio": 1,
    "use_short_conv": False,
    "use_lower_bound": True,
    "hidden_act": "swish",
    "gate_order": "norm_gate_swish_h",
    "intermediate_size": 328,
    "max_position_embeddings": 1024,  # the trained context: the recurrence has no limit
    "rms_norm_eps": 1e-6,
    "bitlinear_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def llama(attention, **changes):
    """A Llama with this attention, and what its configuration adds or changes."""
    return partial(Llama, attention), {**LLAMA_CONFIG, **changes}


def drafter(attention, config):
    """A module for the model of the file `mtp_of`, which stays as it is."""
    return NextTokenHead(load(data.DATA_DIR / config["mtp_of"]), attention, config)


# As in the DeepSeek files: pairs are interleaved, head_dim is that of the rotated part.
MLA_CONFIG = {
    "rope_layout": "interleaved",
    "q_lora_rank": 72,
    "kv_lora_rank": 48,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
}

# As in the DeepSeek-V3 files, at this size.
DEEPSEEK_CONFIG = {
    **LLAMA_CONFIG,
    **MLA_CONFIG,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.5,
    "num_nextn_predict_layers": 1,
    "mtp_zero_first_embedding": False,
}

# name: (model class, configuration).
# Ranks and widths are such that all but GQA and MQA have nearly the parameters of MHA.
MECHANISMS = {
    "mha": llama(GroupedAttention, num_key_value_heads=8),
    "gqa": llama(GroupedAttention, num_key_value_heads=2),
    "mqa": llama(GroupedAttention, num_key_value_heads=1),
    "mla": llama(LatentAttention, **MLA_CONFIG),
    "mfa": llama(FactorizedAttention, head_dim=32, share_q_dim=64),
    "mfa_kr": llama(KeyReuseAttention, head_dim=32, share_q_dim=72),
    # MHA under a retention mask: see masks.py.  The ids are bytes.
    "mha_ansan": llama(GroupedAttention, num_key_value_heads=8, retention={
        "rule": "anchors", "anchor_ids": sorted(b"\n."), "anchor_sees_anchors": False}),
    "mha_sepllm": llama(GroupedAttention, num_key_value_heads=8, retention={
        "rule": "separators", "initial": 3, "window": 64,
        "separator_ids": sorted(b".,;:?!\n")}),
    "matmulfree": (MatMulFree, MATMULFREE_CONFIG),
    # A mixture of experts and multi-token prediction: see deepseek.py.
    "deepseek": (partial(DeepSeek, LatentAttention), DEEPSEEK_CONFIG),
    # Multi-token prediction: see mtp.py.
    "mla_mtp": (partial(drafter, LatentAttention), {
        **LLAMA_CONFIG, **MLA_CONFIG, "num_nextn_predict_layers": 1,
        "mtp_of": "mla.safetensors", "mtp_zero_first_embedding": False}),
}


def make_config(mechanism):
    return {"mechanism": mechanism, **MECHANISMS[mechanism][1]}


def build(config):
    """The model of a configuration, its matrices drawn at random.  Vectors and
    lower bounds stay as their modules make them."""
    model = MECHANISMS[config["mechanism"]][0](config)
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and "lower_bounds" not in name:
            std = 0.02 if "embed" in name else weight.shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                std /= (2 * config["num_hidden_layers"]) ** 0.5
            nn.init.normal_(weight, std=std)
    return model


def stored_dtype(name):
    """Of a parameter in a weight file.  Biases of experts decide by small differences."""
    return torch.float32 if name.endswith("e_score_correction_bias") else torch.bfloat16


def from_tensors(tensors, metadata, dtype=torch.float32):
    """The model of a weight file."""
    model = build(json.loads(metadata["config"])).to(dtype)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()})
    return model.eval()


def load(path, dtype=torch.float32):
    return from_tensors(*safetensors_io.load(path), dtype)
