"""What a module's drafts are, and what they are worth.

Drafting after n known bytes: the main model's last row gives t_n, its greedy
choice.  Slot n-1 gets (h_{n-1}, t_n) and gives draft d_1; slot n gets what slot
n-1 gave out, after shared_head.norm, in place of h_n, and d_1, and gives d_2;
and so on.  All slots before n-1 hold true hiddens and true bytes.
"""

import math

import torch
import torch.nn.functional as F

from mtp import slots

DRAFTS = 3
PREFIX, PREFIXES = 96, 256  # known bytes, and how often drafts are tried


def teacher_forced(net, tokens):
    """Logits of the module and of the main model for the same bytes, both
    [batch, n - 1, vocab]: row i has seen bytes 0 .. i+1."""
    hidden = net.main.hidden(tokens)
    out = slots(net, hidden[:, :-1], tokens[:, 1:])
    return net.main.head(out), net.main.head(hidden[:, 1:])


def draft(net, tokens):
    """(t_n and the drafts [batch, 1 + DRAFTS], logits the drafts are the greatest
    of [batch, DRAFTS, vocab])."""
    hidden = net.main.hidden(tokens)
    first = net.main.head(hidden[:, -1]).argmax(-1, keepdim=True)
    following, logits = torch.cat([tokens[:, 1:], first], dim=1), []
    for _ in range(DRAFTS):
        out = slots(net, hidden, following)
        logits.append(net.main.head(out[:, -1]))
        hidden = torch.cat([hidden, out[:, -1:]], dim=1)
        following = torch.cat([following, logits[-1].argmax(-1, keepdim=True)], dim=1)
    return following[:, -1 - DRAFTS :], torch.stack(logits, dim=1)


def windows(text, size):
    for begin in range(0, len(text), size):
        yield torch.from_numpy(text[begin : begin + size].astype("int64"))


def score(net, text, window):
    """(share of teacher-forced predictions that are the main model's, bits per
    byte), over every byte but the first two of each window."""
    agreed, nats, count = 0, 0.0, 0
    for tokens in windows(text, window):
        module, main = teacher_forced(net, tokens[None, :-1])
        agreed += (module.argmax(-1) == main.argmax(-1)).sum().item()
        nats += F.cross_entropy(module[0], tokens[2:], reduction="sum").item()
        count += len(tokens) - 2
    return agreed / count, nats / count / math.log(2)


def acceptance(net, text):
    """Share of the j-th drafts that are the main model's greedy choice, among
    those whose earlier drafts are; drafted after PREFIXES pieces of the text."""
    starts = torch.arange(PREFIXES) * (len(text) - PREFIX) // PREFIXES
    tokens = torch.from_numpy(text.astype("int64"))[starts[:, None] + torch.arange(PREFIX)]
    drafted, _ = draft(net, tokens)
    main = net.main(torch.cat([tokens, drafted[:, :-1]], dim=1))[:, -DRAFTS:].argmax(-1)
    kept = (drafted[:, 1:] == main).long().cumprod(dim=1).sum(dim=0).tolist()
    return [now / max(1, before) for before, now in zip([PREFIXES, *kept], kept)]


def expected(net, prompt):
    """What an implementation must reproduce, as tensors."""
    tokens = prompt.long()[None]
    first = net.main(tokens)[0, -1:].topk(2).values
    following, logits = draft(net, tokens)
    best = logits[0].topk(2).values
    return {"mtp_logits": teacher_forced(net, tokens)[0][0],
            "next": following[0, :1].to(torch.uint8),
            "next_margin": first[:, 0] - first[:, 1],
            "drafts": following[0, 1:].to(torch.uint8),
            "draft_logits": logits[0],
            "draft_margin": best[:, 0] - best[:, 1]}
