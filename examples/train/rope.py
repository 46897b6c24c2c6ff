"""Rotary positions in both layouts of pairs."""

import torch


class Rope:
    """Rotates x [..., n, dim] by its position along n, counted from 0."""

    def __init__(self, config, dim):
        theta, n = config["rope_theta"], config["max_position_embeddings"]
        inv_freq = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles = torch.outer(torch.arange(n, dtype=torch.float64), inv_freq)
        self.half = {"half": True, "interleaved": False}[config["rope_layout"]]
        if self.half:  # rotate_half: dimension i pairs with i + dim / 2
            angles = torch.cat([angles, angles], dim=-1)
        else:  # dimension 2i pairs with 2i + 1
            angles = angles.repeat_interleave(2, dim=-1)
        self.cos, self.sin = angles.cos().float(), angles.sin().float()

    def __call__(self, x):
        if self.half:
            first, second = x.chunk(2, dim=-1)
            turned = torch.cat([-second, first], dim=-1)
        else:
            turned = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)
        n = x.shape[-2]
        return x * self.cos[:n] + turned * self.sin[:n]
