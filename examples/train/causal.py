"""Causal softmax attention."""

import torch


def causal_attention(q, k, v, visible=None, block=128):
    """softmax(q k^T / sqrt(d)) v, [batch, heads, n, dim], a block of queries at
    a time: keys after the block are never touched.  d is the width of q and k;
    v may have another, and k and v may have one head for all of q's.  visible
    [batch, n, n] is true where a query sees a key: the causal half at most, and
    all of it when not given."""
    n, scale = q.shape[2], q.shape[3] ** -0.5
    future = torch.ones(block, block, dtype=torch.bool).triu(1)
    out = []
    for begin in range(0, n, block):
        end = min(begin + block, n)
        scores = (q[:, :, begin:end] * scale) @ k[:, :, :end].transpose(2, 3)
        if visible is None:
            hidden = future[: end - begin, : end - begin]
            scores[:, :, :, begin:].masked_fill_(hidden, float("-inf"))
        else:
            scores.masked_fill_(~visible[:, None, begin:end, :end], float("-inf"))
        out.append(scores.softmax(dim=-1) @ v[:, :, :end])
    return torch.cat(out, dim=2)
