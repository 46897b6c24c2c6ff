"""Causal softmax attention."""

import torch


def causal_attention(q, k, v, block=128):
    """softmax(q k^T / sqrt(d)) v, [batch, heads, n, dim], a block of queries at
    a time: keys after the block are never touched.  d is the width of q and k;
    v may have another, and k and v may have one head for all of q's."""
    n, scale = q.shape[2], q.shape[3] ** -0.5
    future = torch.ones(block, block, dtype=torch.bool).triu(1)
    out = []
    for begin in range(0, n, block):
        end = min(begin + block, n)
        scores = (q[:, :, begin:end] * scale) @ k[:, :, :end].transpose(2, 3)
        scores[:, :, :, begin:].masked_fill_(future[: end - begin, : end - begin], float("-inf"))
        out.append(scores.softmax(dim=-1) @ v[:, :, :end])
    return torch.cat(out, dim=2)
