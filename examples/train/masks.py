"""Retention: which earlier tokens a query sees, as a boolean mask.

The `retention` entry of a configuration names the rule and its parameters; a
configuration without it is plain causal.  Both rules look at the token ids:

anchors (AnLLM's anchor-based self-attention, arXiv 2402.07616).  An anchor is
    the last token of its segment.  A query sees its own segment, and all
    earlier anchors; a query that is an anchor sees those only if
    `anchor_sees_anchors`.
separators (SepLLM, arXiv 2412.12094).  A query sees the first `initial`
    tokens, the separators, and the last `window` tokens, its own included.

A mask is made from the tokens given and no others: position 0 is the first.
"""

import torch


def anchors(tokens, anchor_ids, anchor_sees_anchors):
    anchor = torch.isin(tokens, torch.tensor(anchor_ids))
    segment = anchor.cumsum(-1) - anchor.long()  # anchors strictly before
    same = segment[..., :, None] == segment[..., None, :]
    if anchor_sees_anchors:
        return same | anchor[..., None, :]
    return same | (anchor[..., None, :] & ~anchor[..., :, None])


def separators(tokens, initial, window, separator_ids):
    position = torch.arange(tokens.shape[-1])
    near = position[:, None] - position < window
    separator = torch.isin(tokens, torch.tensor(separator_ids))
    return near | (position < initial) | separator[..., None, :]


RULES = {"anchors": anchors, "separators": separators}


def visible_mask(retention, tokens):
    """[batch, n, n] for tokens [batch, n]: true where query i (row) sees key j.
    None for no retention."""
    if retention is None:
        return None
    parameters = {key: value for key, value in retention.items() if key != "rule"}
    return RULES[retention["rule"]](tokens, **parameters).tril()
