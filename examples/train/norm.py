"""RMSNorm, of the residual stream and of latents."""

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        x = x.to(self.weight.dtype)  # a latent comes as bfloat16 while training
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight
