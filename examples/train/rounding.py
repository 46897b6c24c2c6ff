"""How far float32 strays from float64 in a model with rounded activations.

    python3 examples/train/rounding.py      # prints the figures of README.md

Other implementations sum in other orders.  They are stood for by a disturbance:
every output of a norm is multiplied by 1 + size * (a normal random number).
"""

import numpy as np
import torch

import data
import model as models
import safetensors_io
import train
from norm import RMSNorm

NAME, PROMPTS, RUNS = "matmulfree", 44, 40
SIZES = [6e-8, 1.2e-7, 5e-7, 2e-6, 1e-5]  # 6e-8 is half a unit in the last place


class Disturbance:
    """Of all norms of a model; none while the size is 0."""

    def __init__(self, net):
        self.size = 0.0
        for module in net.modules():
            if isinstance(module, RMSNorm):
                module.register_forward_hook(self.disturb)

    def disturb(self, module, inputs, output):
        return output * (1 + self.size * torch.randn_like(output)) if self.size else output


def errors(net, tokens, logits):
    """The largest at each position."""
    return (net(tokens[None])[0] - logits).abs().amax(-1)


def text_errors(net, exact, text):
    starts = train.prompt_starts(text)
    for start in (starts[i * len(starts) // PROMPTS] for i in range(PROMPTS)):
        tokens = torch.from_numpy(text[start : start + train.PROMPT].astype(np.int64))
        yield errors(net, tokens, exact(tokens[None])[0])


def margins(net, prompt, continuation):
    """Logit of each byte of the continuation minus the best other one."""
    tokens = torch.cat([prompt, continuation])[None, :-1]
    logits, chosen = net(tokens)[0, len(prompt) - 1 :], continuation[:, None]
    others = logits.scatter(1, chosen, float("-inf"))
    return logits.gather(1, chosen)[:, 0] - others.amax(-1)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    torch.manual_seed(train.SEED)
    text = np.frombuffer(data.HELDOUT_FILE.read_bytes(), dtype=np.uint8)
    weights, metadata = safetensors_io.load(data.DATA_DIR / f"{NAME}.safetensors")
    want, _ = safetensors_io.load(data.DATA_DIR / f"{NAME}.expected.safetensors")
    prompt, continuation = want["prompt"].long(), want["greedy"].long()
    exact = models.from_tensors(weights, metadata, torch.float64)
    net = models.from_tensors(weights, metadata)
    disturbance = Disturbance(net)

    error = torch.stack(list(text_errors(net, exact, text)))
    print(f"{PROMPTS} prompts: largest error {error.max():.3f}, "
          f"within 1e-4 at {(error < 1e-4).double().mean():.1%} of the positions")
    error = errors(net, prompt, want["logits"])
    print(f"prompt of the file: largest error {error.max():.1e}")
    bits = train.bits_per_byte(exact, text)
    for disturbance.size in [0.0, *SIZES]:
        stray = train.bits_per_byte(net, text) - bits
        error = torch.stack([errors(net, prompt, want["logits"]) for _ in range(RUNS)])
        margin = torch.stack([margins(net, prompt, continuation) for _ in range(RUNS)])
        print(f"disturbed by {disturbance.size:g}: {stray:+.1e} held-out bits per byte; "
              f"of {RUNS} runs, largest error {error.max():.3f}, at the median position "
              f"{error.median(dim=1).values.max():.1e}, smallest margin {margin.min():.3f}")


if __name__ == "__main__":
    main()
