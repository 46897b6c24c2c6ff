"""The text: the King James Bible, from Debian's bible-kjv and bible-kjv-text.

Form of the text (plain ASCII, one verse a line, verse numbers dropped):

    Genesis 1
                       <- empty line
    In the beginning God created the heaven and the earth.
    And the earth was without form, and void; ...
                       <- empty line
    Genesis 2
    ...

The book of Esther is held out: it is never trained on, and is committed as
examples/data/heldout.txt.  Everything else is the training text.

    python3 examples/train/data.py      # (re)writes examples/data/heldout.txt
"""

import re
import subprocess
from pathlib import Path

import numpy as np

DATA_DIR = Path(__file__).resolve().parent.parent / "data"
HELDOUT_BOOK = "Esther"
HELDOUT_FILE = DATA_DIR / "heldout.txt"

# The program's abbreviations, in its order, and the names used in headings.
BOOKS = dict(pair.split(":") for pair in """
Ge:Genesis Exo:Exodus Lev:Leviticus Num:Numbers Deu:Deuteronomy Josh:Joshua
Jdgs:Judges Ruth:Ruth 1Sm:1_Samuel 2Sm:2_Samuel 1Ki:1_Kings 2Ki:2_Kings
1Chr:1_Chronicles 2Chr:2_Chronicles Ezra:Ezra Neh:Nehemiah Est:Esther Job:Job
Psa:Psalm Prv:Proverbs Eccl:Ecclesiastes SSol:Song_of_Solomon Isa:Isaiah
Jer:Jeremiah Lam:Lamentations Eze:Ezekiel Dan:Daniel Hos:Hosea Joel:Joel
Amos:Amos Obad:Obadiah Jonah:Jonah Mic:Micah Nahum:Nahum Hab:Habakkuk
Zep:Zephaniah Hag:Haggai Zec:Zechariah Mal:Malachi Mat:Matthew Mark:Mark
Luke:Luke John:John Acts:Acts Rom:Romans 1Cor:1_Corinthians 2Cor:2_Corinthians
Gal:Galatians Eph:Ephesians Phi:Philippians Col:Colossians 1Th:1_Thessalonians
2Th:2_Thessalonians 1Tim:1_Timothy 2Tim:2_Timothy Titus:Titus Phmn:Philemon
Heb:Hebrews Jas:James 1Pet:1_Peter 2Pet:2_Peter 1Jn:1_John 2Jn:2_John
3Jn:3_John Jude:Jude Rev:Revelation
""".split())


def books():
    """Return {book name: text} for the whole Bible, in order."""
    command = ["bible", "-f", "gen1:1-rev22:21"]
    try:
        raw = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode("ascii")
    except FileNotFoundError:
        raise SystemExit("needs Debian's packages bible-kjv and bible-kjv-text")
    texts, last_heading = {}, None
    for line in raw.splitlines():
        book, chapter, verse = re.fullmatch(r"(\w+?)(\d+):\d+ (.*)", line).groups()
        name = BOOKS[book].replace("_", " ")
        heading = f"{name} {chapter}"
        lines = texts.setdefault(name, [])
        if heading != last_heading:
            lines.append(f"{heading}\n\n" if not lines else f"\n{heading}\n\n")
            last_heading = heading
        lines.append(verse.strip() + "\n")
    assert len(texts) == len(BOOKS)
    return {name: "".join(lines) for name, lines in texts.items()}


def load_split():
    """Return (training bytes, held-out bytes) as uint8 arrays."""
    texts = books()
    heldout = texts.pop(HELDOUT_BOOK)
    train = "\n".join(texts.values())
    return tuple(np.frombuffer(t.encode("ascii"), dtype=np.uint8) for t in (train, heldout))


def batch(rng, train, size, context):
    """Random windows: inputs [size, context] and the bytes that follow each."""
    starts = rng.integers(0, len(train) - context, size)
    windows = train[starts[:, None] + np.arange(context + 1)].astype(np.int64)
    return windows[:, :-1], windows[:, 1:]


def write_heldout():
    DATA_DIR.mkdir(exist_ok=True)
    HELDOUT_FILE.write_bytes(load_split()[1].tobytes())


if __name__ == "__main__":
    write_heldout()
    print(f"{HELDOUT_FILE.name}: {HELDOUT_FILE.stat().st_size} bytes")
