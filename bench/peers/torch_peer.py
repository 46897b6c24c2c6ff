"""torch on the shapes of heed_bench. Importing this module needs torch.

K and V are head-major in bf16, which is torch's best layout. Layers that are read in turn take more memory than the
processor's caches hold.
"""
import itertools
import time

import torch
import torch.nn.functional as functional

from failed import Failed

version = f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"
cold_bytes = 160 << 20
permitted = 0.05  # error of an answer, relative, in the 2-norm: bf16 everywhere gives less than 0.02


def bmm(q, k, v, mask, work):
    """Heads of a group as rows of one matrix: product with K^T, softmax, product with V. oneDNN multiplies."""
    rows = q.view(work.kv_heads, -1, work.key_width)
    scores = torch.bmm(rows * work.scale, k.transpose(1, 2))
    if mask is not None:
        scores = (scores.view(work.heads, work.queries, work.keys) + mask).view_as(scores)
    return torch.bmm(torch.softmax(scores, -1), v).view(work.heads, work.queries, work.value_width)


def sdpa(q, k, v, mask, work):
    """scaled_dot_product_attention. It takes a causal mask as a word only if queries and keys are as many."""
    square = work.queries == work.keys
    return functional.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=None if square else mask, is_causal=square and work.queries > 1,
        scale=work.scale, enable_gqa=work.heads != work.kv_heads)[0]


class Rows:
    """q, and the keys and values of layers that are read in turn."""

    def __init__(self, work):
        torch.manual_seed(1)
        layers = work.layers or cold_bytes // (2 * work.layer_numbers) + 1
        self.work = work
        self.q = torch.randn(work.heads, work.queries, work.key_width).bfloat16()
        self.layers = []
        for _ in range(layers):
            k = torch.randn(work.kv_heads, work.keys, work.key_width).bfloat16()
            v = k[..., :work.value_width] if work.value_in_key else \
                torch.randn(work.kv_heads, work.keys, work.value_width).bfloat16()
            self.layers.append((k, v))
        self.mask = None
        if work.queries > 1:
            hidden = torch.ones(work.queries, work.keys, dtype=torch.bool).triu(work.keys - work.queries + 1)
            self.mask = torch.zeros(work.queries, work.keys).masked_fill(hidden, float("-inf")).bfloat16()

    def error(self, out):
        """Of an answer for layer 0: of the first, the middle and the last head against float64."""
        work, (k, v) = self.work, self.layers[0]
        worst = 0.0
        for head in {0, work.heads // 2, work.heads - 1}:
            group = head * work.kv_heads // work.heads
            scores = self.q[head].double() @ k[group].double().T * work.scale
            if self.mask is not None:
                scores += self.mask.double()
            right = torch.softmax(scores, -1) @ v[group].double()
            relative = float((out[head].double() - right).norm() / right.norm())
            worst = relative if not relative <= worst else worst  # NaN stays
        return worst


class Torch:
    """One way to compute attention with torch."""

    def __init__(self, function):
        self.name, self.function = f"torch {function.__name__}", function
        self.error = 0.0  # the largest of all answers

    def can(self, work):
        # Without an attention of its own for values that are part of keys, sdpa would be bmm in another order.
        return not (self.function is sdpa and work.value_in_key)

    def seconds(self, work, rows, threads, min_time):
        """Mean time of a call over a turn, as heed_bench has it. Raises Failed."""
        torch.set_num_threads(threads)
        with torch.inference_mode():
            call = lambda layer: self.function(rows.q, *layer, rows.mask, work)
            error = rows.error(call(rows.layers[0]))
            if not error <= permitted:
                raise Failed(f"{self.name}, {work.title}: relative error {error:.3g}, must be at most {permitted}")
            self.error = max(self.error, error)
            calls, start = 0, time.perf_counter()
            for layer in itertools.cycle(rows.layers[1:] + rows.layers[:1]):
                call(layer)
                calls += 1
                elapsed = time.perf_counter() - start
                if elapsed >= min_time and calls >= 3:
                    return elapsed / calls


peers = [Torch(bmm), Torch(sdpa)]
