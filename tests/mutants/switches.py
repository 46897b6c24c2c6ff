"""Puts many mutants into one copy of a header, each behind a switch, so that a killer is compiled once for all of them.

Around a mutant is a block of code, `{ body }`. It becomes `{ if (HEED_MUTANT(7)) { mutated body } else { body } }`, which
works for whatever the body declares. What stands outside every block (a constant, a signature) has no switch.
"""
import re
import typing


class Mistake(typing.NamedTuple):
    """What a mutant does to a text, and the block around it: the places of its braces."""

    number: int
    begin: int
    end: int
    new: str
    block: tuple[int, int] | None


_BLANK = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_SWITCH = re.compile(r"\bswitch\b")
_CODE = re.compile(r"([)\]]|\b(const|noexcept|override|mutable|else|do|try)|->[^;{}()]*)$")


def _blocks(text):
    """The pairs of braces around statements. A switch statement is none: its labels must stay directly below it."""
    code = _BLANK.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    opened, blocks = [], []
    for place, character in enumerate(code):
        if character == "{":
            opened.append(place)
        elif character == "}":
            begin = opened.pop()
            head = code[:begin].rstrip()
            head = head[max(head.rfind(c) for c in ";{}") + 1:]
            if _CODE.search(head) and not _SWITCH.search(head):
                blocks.append((begin, place))
    return blocks


def find(text, mutants):
    """A Mistake for each (number, old, new), where `old` must be in the text once."""
    blocks, mistakes = _blocks(text), []
    for number, old, new in mutants:
        begin, end = text.index(old), text.index(old) + len(old)
        while old and new and old[0] == new[0]:
            old, new, begin = old[1:], new[1:], begin + 1
        while old and new and old[-1] == new[-1]:
            old, new, end = old[:-1], new[:-1], end - 1
        around = [block for block in blocks if block[0] < begin and end <= block[1]]
        mistakes.append(Mistake(number, begin, end, new, max(around, default=None)))
    return mistakes


def write(text, mistakes):
    """The text with a switch for every mistake; each must have a block."""
    return _write(text, 0, len(text), sorted(mistakes, key=lambda mistake: mistake.block))


def _write(text, begin, end, mistakes):
    written = ""
    while mistakes:
        first, last = mistakes[0].block  # none begins earlier, so this block is inside no other
        here = [mistake for mistake in mistakes if mistake.block == (first, last)]
        inner = [mistake for mistake in mistakes if first < mistake.block[0] < last]
        mistakes = [mistake for mistake in mistakes if mistake.block[0] > last]
        written += text[begin:first + 1]
        for one in here:
            mutated = text[first + 1:one.begin] + one.new + text[one.end:last]
            written += f" if (HEED_MUTANT({one.number})) {{{mutated}}} else"
        written += " {" + _write(text, first + 1, last, inner) + "}"
        begin = last
    return written + text[begin:end]
