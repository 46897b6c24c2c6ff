"""Train the example models and write examples/data/.

    python3 examples/train/train.py --all               # every mechanism
    python3 examples/train/train.py --mechanism gqa     # one
    python3 examples/train/train.py --all --verify      # re-measure the files

Every mechanism gets the same width, depth, seed, batches and schedule; what
may differ is in RECIPES.  For each, two files are written: NAME.safetensors
(weights, bfloat16) and NAME.expected.safetensors (what PyTorch computes from
them).
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

import data
import deepseek
import drafts
import masks
import model as models
import moe
import mtp
import safetensors_io

SEED = 1611
# (steps, context, sequences per batch): 2048 tokens a step throughout.  Short
# contexts first, as they are cheaper; the last phase covers every position.
PHASES = [(2400, 128, 16), (3000, 256, 8), (1200, 1024, 2)]
WARMUP = 200
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 0.1, 1.0

WINDOW = 1024  # held-out text is scored in windows of this many bytes
PROMPT, GREEDY = 96, 64  # bytes in the expected file
CANDIDATES = 12  # prompts tried


def next_byte(net, inputs, targets):
    """Terms of the loss, (weight, value) by name."""
    logits = net(inputs)
    return {"train": (1.0, F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()))}


@dataclass(frozen=True)
class Recipe:
    losses: Callable = next_byte
    after_step: Callable = lambda net: None
    shortened: int = 1  # 1 / this of the steps
    peak_lr: float = 3e-3
    dtype: torch.dtype = torch.float32  # of what is written down as expected
    logit_error: float = 1e-3  # how far a logit in float32 may be from it
    bits_error: float = 2e-4  # and the held-out bits per byte
    min_margin: float = 1e-2  # smallest top-1/top-2 gap allowed


# A number on the border of two int8 steps takes either, by the last bit of a
# float32.  Then what is expected needs float64, and float32 room; README.md has
# the measurements.
RECIPES = {
    "matmulfree": Recipe(peak_lr=7e-3, dtype=torch.float64, logit_error=1.0,
                         bits_error=1e-3, min_margin=0.2),
    "deepseek": Recipe(losses=deepseek.joint_losses, after_step=moe.balance, shortened=2),
    "mla_mtp": Recipe(losses=partial(mtp.frozen_losses, recycled=0.3), shortened=3),
}


def recipe(mechanism):
    return RECIPES.get(mechanism, Recipe())


def learning_rate(peak, step, steps):
    """Up to the peak in a line, then down to a hundredth of it in a cosine."""
    if step < WARMUP:
        return peak * (step + 1) / WARMUP
    done, final = (step - WARMUP) / max(1, steps - WARMUP), peak / 100
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * done))


def train(mechanism, text, quick):
    """Return (model, facts about the run); 1 / quick of the steps."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)  # the same batches for every mechanism
    net = models.build(models.make_config(mechanism))
    matrices = [p for p in net.parameters() if p.dim() == 2]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY},
         {"params": vectors, "weight_decay": 0.0}], betas=BETAS, eps=1e-8)

    how = recipe(mechanism)
    schedule = [(context, size) for count, context, size in PHASES
                for _ in range(max(1, count // (how.shortened * quick)))]
    steps = len(schedule)
    losses, tokens, start = [], 0, time.time()
    for step, (context, size) in enumerate(schedule):
        inputs, targets = map(torch.from_numpy, data.batch(rng, text, size, context))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(how.peak_lr, step, steps)
        # Weights stay float32; matrix products run in bfloat16.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = how.losses(net, inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        sum(weight * loss for weight, loss in terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        how.after_step(net)
        losses.append([loss.item() for _, loss in terms.values()])
        tokens += inputs.numel()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            recent = dict(zip(terms, np.mean(losses[-100:], axis=0).tolist()))
            bits = ", ".join(f"{name} {nats / math.log(2):.3f}" for name, nats in recent.items())
            print(f"{mechanism} step {step + 1}/{steps} context {context} bits/byte: {bits}; "
                  f"{tokens / (time.time() - start):.0f} tokens/s", flush=True)
    return net, {
        "steps": steps,
        "tokens": tokens,
        "seed": SEED,
        # nats, last 100 steps
        **{f"final_{name}_loss": round(nats, 4) for name, nats in recent.items()},
    }


@torch.no_grad()
def bits_per_byte(net, text):
    """Mean over every byte but the first of each window."""
    nats, count = 0.0, 0
    for begin in range(0, len(text), WINDOW):
        window = torch.from_numpy(text[begin : begin + WINDOW].astype(np.int64))
        logits = net(window[None, :-1])[0]
        nats += F.cross_entropy(logits, window[1:], reduction="sum").item()
        count += len(window) - 1
    return nats / count / math.log(2)


@torch.no_grad()
def greedy(net, prompt):
    """Return (continuation, top-1 minus top-2 logit at each of its bytes)."""
    tokens, margins = prompt.long(), []
    for _ in range(GREEDY):
        top = net(tokens[None])[0, -1].topk(2)
        margins.append(top.values[0] - top.values[1])
        tokens = torch.cat([tokens, top.indices[:1]])
    return tokens[len(prompt):].to(torch.uint8), torch.stack(margins)


def hides(retention, prompt):
    """Whether the last query misses a quarter of the keys or more."""
    mask = masks.visible_mask(retention, torch.from_numpy(prompt.astype(np.int64))[None])
    return mask[0, -1].sum() <= 0.75 * len(prompt)


def prompt_starts(text):
    """The beginnings of verses."""
    verses = np.flatnonzero(text[:-1] == ord("\n")) + 1
    return [int(s) for s in verses if chr(text[s]).isalpha() and s + PROMPT <= len(text)]


@torch.no_grad()
def figures(net, text):
    """What is measured on the held-out text, of a model and of its module."""
    found = {}
    if not isinstance(net, mtp.NextTokenHead):
        found["heldout_bits_per_byte"] = bits_per_byte(net, text)
    if hasattr(net, "mtp"):
        agreement, bits = drafts.score(net, text, WINDOW)
        found |= {"heldout_mtp_agreement": agreement, "heldout_mtp_bits_per_byte": bits,
                  "heldout_draft_acceptance": drafts.acceptance(net, text)}
    if moe.gates(net):
        found["heldout_expert_share"] = moe.shares(net, drafts.windows(text, WINDOW))
    return {name: np.round(value, 4).tolist() for name, value in found.items()}


@torch.no_grad()
def computed(net, prompt):
    """What an implementation must reproduce from a prompt, as tensors."""
    tensors = {"prompt": prompt}
    if not isinstance(net, mtp.NextTokenHead):
        tensors["logits"] = net(prompt[None].long())[0]
        tensors["greedy"], tensors["greedy_margin"] = greedy(net, prompt)
    if hasattr(net, "mtp"):
        tensors |= drafts.expected(net, prompt)
    if moe.gates(net):
        tensors |= moe.expected(net, prompt, tensors["greedy"])
    return tensors


def smallest_margin(tensors):
    return min(t.min().item() for name, t in tensors.items() if name.endswith("margin"))


def expected(net, text):
    """Prompts start at a verse; of a few candidates, take the one where greedy
    choices are the furthest from a tie."""
    starts = prompt_starts(text)
    if "retention" in net.config:  # a prompt must show the mask at work
        starts = [s for s in starts if hides(net.config["retention"], text[s : s + PROMPT])]
    picks = [starts[i * len(starts) // CANDIDATES] for i in range(CANDIDATES)]
    runs = [computed(net, torch.from_numpy(text[s : s + PROMPT].copy())) for s in picks]
    best = max(runs, key=smallest_margin)
    assert smallest_margin(best) > recipe(net.config["mechanism"]).min_margin, \
        "every candidate has a near-tie: raise CANDIDATES"
    return {name: t if t.dtype == torch.uint8 else t.float() for name, t in best.items()}


def write_files(mechanism, net, facts, heldout):
    weights = {name: p.detach().to(models.stored_dtype(name))
               for name, p in net.named_parameters()}
    metadata = {"config": json.dumps(net.config)}
    rounded = models.from_tensors(weights, metadata, recipe(mechanism).dtype)
    metadata["training"] = json.dumps(facts | figures(rounded, heldout))
    tensors = expected(rounded, heldout)
    safetensors_io.save(data.DATA_DIR / f"{mechanism}.safetensors", weights, metadata)
    safetensors_io.save(data.DATA_DIR / f"{mechanism}.expected.safetensors", tensors,
                        {"model": f"{mechanism}.safetensors", "text": data.HELDOUT_FILE.name})


def check(net, facts, want, heldout, tolerance):
    """Return (held-out figures, largest error of a logit), all in order.  At most
    positions nothing lies on a border, whatever the mechanism."""
    found, got = figures(net, heldout), computed(net, want["prompt"])
    for name, value in found.items():
        assert np.abs(np.subtract(value, facts[name])).max() < tolerance.bits_error, name
    largest = 0.0
    for name, tensor in want.items():
        if tensor.dtype == torch.uint8:
            assert torch.equal(got[name], tensor), name
        elif name.endswith("logits"):
            error = (got[name] - tensor).abs().amax(-1)
            assert error.max() < tolerance.logit_error, name
            assert error.median() < Recipe().logit_error, name
            largest = max(largest, error.max().item())
    return found, largest


def verify(mechanism):
    """Read both files back and check them against each other."""
    path = data.DATA_DIR / f"{mechanism}.safetensors"
    heldout = np.frombuffer(data.HELDOUT_FILE.read_bytes(), dtype=np.uint8)
    weights, metadata = safetensors_io.load(path)
    want, _ = safetensors_io.load(data.DATA_DIR / f"{mechanism}.expected.safetensors")
    facts, margin = json.loads(metadata["training"]), smallest_margin(want)
    assert path.stat().st_size < 2_000_000
    assert all(t.dtype == models.stored_dtype(name) and t.float().isfinite().all()
               for name, t in weights.items())
    assert all(t.float().isfinite().all() for t in want.values())
    assert bytes(want["prompt"].numpy()) in heldout.tobytes()
    assert margin > recipe(mechanism).min_margin
    parameters = sum(t.numel() for t in weights.values())
    print(f"{mechanism}: {parameters} parameters, {path.stat().st_size} bytes, "
          f"smallest greedy margin {margin:.3f}, {facts}")
    # What was written must come back; float32, where it is another matter, nearly.
    passes = {recipe(mechanism).dtype: Recipe(), torch.float32: recipe(mechanism)}
    for dtype, tolerance in passes.items():
        net = models.from_tensors(weights, metadata, dtype)
        found, error = check(net, facts, want, heldout, tolerance)
        print(f"  {dtype}: {found}, logits within {error:.1e}")
    for name, tensor in sorted(want.items()):
        if tensor.dtype == torch.uint8 and tensor.dim() == 1:
            print(f"  {name}:", repr(bytes(tensor.numpy()).decode()))


def main():
    parser = argparse.ArgumentParser(description="Train the example models.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true")
    which.add_argument("--mechanism", choices=models.MECHANISMS)
    parser.add_argument("--verify", action="store_true", help="check existing files, do not train")
    parser.add_argument("--quick", type=int, default=1, metavar="N", help="1/N of the steps")
    args = parser.parse_args()

    torch.set_num_threads(1)  # one thread: sums are always in the same order
    torch.use_deterministic_algorithms(True)
    names = list(models.MECHANISMS) if args.all else [args.mechanism]
    if not args.verify:
        text, heldout = data.load_split()
        data.write_heldout()
        for name in names:
            net, facts = train(name, text, args.quick)
            write_files(name, net, facts, heldout)
    for name in names:
        verify(name)


if __name__ == "__main__":
    main()
