"""The recurrence h_t = f_t * h_(t-1) + c_t, from h = 0, along dimension 1.

By doubling: after k passes every h_t holds the last 2^k terms, so n tokens take
log2(n) passes over whole tensors instead of n small steps.  Nothing is divided,
and 0 < f < 1: products of f only shrink.
"""

import torch


def scan(f, c):
    f, c, reach, n = f.clone(), c.clone(), 1, f.shape[1]
    while reach < n:
        c[:, reach:] += f[:, reach:] * c[:, :-reach]  # the product first, then the sum in place
        f[:, reach:] = f[:, reach:] * f[:, :-reach]
        reach *= 2
    return c


class Recurrence(torch.autograd.Function):
    """The gradient runs the same recurrence from the last token to the first."""

    @staticmethod
    def forward(ctx, f, c):
        h = scan(f, c)
        ctx.save_for_backward(f, h)
        return h

    @staticmethod
    def backward(ctx, grad):
        f, h = ctx.saved_tensors
        first = torch.zeros_like(f[:, :1])
        following = torch.cat([f[:, 1:], first], dim=1)
        to_c = scan(following.flip(1), grad.flip(1)).flip(1)
        previous = torch.cat([first, h[:, :-1]], dim=1)
        return to_c * previous, to_c


recurrence = Recurrence.apply
