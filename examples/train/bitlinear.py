"""BitLinear: int8 activations times ternary weights, with a norm of its own.

Both quantisers round half to even and are the identity in the backward pass
(straight-through).  What is trained and stored is the float master weight;
its ternary codes are made anew in every forward pass.
"""

import torch
import torch.nn.functional as F
from torch import nn

from norm import RMSNorm

TINY = 1e-5  # smallest scale: a row or a matrix of zeros stays one


def quantise_activations(x):
    """Integers in [-127, 127] and what one of them is worth, per token."""
    largest = x.abs().amax(-1, keepdim=True).clamp(min=TINY)
    return (x * (127 / largest)).round().clamp(-128, 127), largest / 127


def quantise_weights(weight):
    """Codes -1, 0, 1 and what one of them is worth, per matrix.  The mean is
    summed in float64: codes near half of it must not hang on an order."""
    mean = weight.double().abs().mean().clamp(min=TINY).to(weight.dtype)
    return (weight / mean).round().clamp(-1, 1), mean


def integer_product(q, codes):
    """Exact: no sum reaches 2^24.  bfloat16 would round the result, so autocast
    is off.  oneDNN is asked for by name, as Debian's PyTorch takes float32
    products to the reference BLAS, which needs thirty times as long."""
    with torch.autocast("cpu", enabled=False):
        if q.dtype == torch.float32:
            return F.linear(q.to_mkldnn(), codes.to_mkldnn()).to_dense()
        return F.linear(q, codes)


class TernaryProduct(torch.autograd.Function):
    """Backward is that of the dequantised values, with matrix products in
    bfloat16 as for every other model; codes and integers are exact in it."""

    @staticmethod
    def forward(ctx, x, weight):
        q, step = quantise_activations(x)
        codes, mean = quantise_weights(weight)
        ctx.save_for_backward(q.bfloat16(), step, codes.bfloat16(), mean)
        return integer_product(q, codes) * step * mean

    @staticmethod
    def backward(ctx, grad):
        q, step, codes, mean = ctx.saved_tensors
        to_x = (grad * mean).bfloat16() @ codes
        to_weight = (grad * step).bfloat16().flatten(0, -2).T @ q.flatten(0, -2)
        return to_x.to(grad.dtype), to_weight.to(grad.dtype)


class BitLinear(nn.Module):
    def __init__(self, inputs, outputs, config):
        super().__init__()
        self.norm = RMSNorm(inputs, config["bitlinear_norm_eps"])
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x):
        return TernaryProduct.apply(self.norm(x), self.weight)
