"""heed beside its peers on the same work: one markdown table, losses included.

    compare.py <heed_bench> [--threads N] [--rounds N] [--works REGEX] [--min-time SECONDS] [--backend NAME]

Peers are what this Python has: torch (`pip install torch`), and ggml, which `pip install llama-cpp-python` compiles.
heed_bench and the peers take turns, work by work and round by round; each figure is the median of the rounds. Every
answer is checked. The exit code is 0 if all went well, 1 if an answer was wrong or a program failed, 2 if the command
line was wrong or no peer was found.
"""
import argparse
import importlib
import pathlib
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.dont_write_bytecode = True
from failed import Failed  # noqa: E402
from heed_rows import HeedBench  # noqa: E402
from works import all_works  # noqa: E402

libraries = {"torch": "torch_peer", "llama-cpp-python": "ggml_peer"}  # a library, and the module here that times it


def find_peers():
    """The modules whose libraries are there, and a message for each other."""
    found, missing = [], []
    for library, module in libraries.items():
        try:
            found.append(importlib.import_module(module))
        except ImportError as error:
            missing.append(f"{library} cannot be imported by {sys.executable} ({error}): "
                           f"`pip install {library}`, or run this script with a Python that has it")
    return found, missing


class Comparison:
    """Times of one work, a list over the rounds for everyone."""

    def __init__(self, work):
        self.work = work
        self.rows = {}  # math: [Row]
        self.peers = {}  # name: [seconds]

    def run(self, bench, modules, arguments):
        """The rounds. Leaves `rows` empty if heed_bench has no such row. Raises Failed."""
        data = []
        for _ in range(arguments.rounds):
            for math, row in bench.rows(self.work, arguments.threads).items():
                self.rows.setdefault(math, []).append(row)
            if not self.rows:
                return
            data = data or [module.Rows(self.work) for module in modules]
            for module, rows in zip(modules, data):
                for peer in module.peers:
                    if peer.can(self.work):
                        seconds = peer.seconds(self.work, rows, arguments.threads, arguments.min_time)
                        self.peers.setdefault(peer.name, []).append(seconds)

    def lines(self, names):
        """A line of the table for each math of heed."""
        lines = []
        for math, rows in self.rows.items():
            roof = 100 * statistics.median(row.roof for row in rows)
            cells = [f"{self.work.title}, {math}", number(statistics.median(row.seconds for row in rows) * 1e6),
                     f"{roof:.0f} {statistics.mode(row.bound for row in rows)}"]
            for name in names:
                times = self.peers.get(name)
                if not times:
                    cells.append("-")
                    continue
                ratio = statistics.median(time / row.seconds for time, row in zip(times, rows))
                cell = f"{number(statistics.median(times) * 1e6)} ({ratio:.2f})"
                cells.append(f"**{cell}**" if ratio < 1 else cell)
            lines.append("| " + " | ".join(cells) + " |")
        return lines


def number(x):
    """Three digits, or all before the point."""
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def table(comparisons, names):
    header = ["work, math of heed", "heed, us", "% of roof, bound"] + [f"{name}, us (over heed)" for name in names]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for comparison in comparisons:
        lines += comparison.lines(names)
    return "\n".join(lines)


def describe(bench, modules, arguments):
    """What a reader needs to judge the numbers."""
    facts = [f"{key}: {bench.context[key]}" for key in ("cpu", "heed", "compiler", "flags") if key in bench.context]
    facts += [f"{key}: {text}" for key, text in bench.context.items()
              if key.startswith("limit/") and key.endswith(f"threads:{arguments.threads}")]
    facts += [module.version for module in modules]
    facts.append(f"threads: {arguments.threads}; rounds: {arguments.rounds}, heed and peers in turns, medians; rows of heed "
                 "and torch in bf16; bold: faster than heed")
    facts += [f"largest error of {peer.name}, relative: {peer.error:.2g}"
              for module in modules for peer in module.peers]
    return "\n".join(f"- {fact}" for fact in facts)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("heed_bench", help="the program, such as build/release/bin/heed_bench")
    parser.add_argument("--threads", type=int, default=1, help="heed_bench has rows for 1 and for all (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of everyone at each work (default 5)")
    parser.add_argument("--works", default="", help="only works whose title matches, as in 'decode GQA'")
    parser.add_argument("--min-time", type=float, default=0.25, help="seconds of a turn (default 0.25)")
    parser.add_argument("--backend", default="xsimd", help="of heed (default xsimd)")
    return parser, parser.parse_args()


def main():
    parser, arguments = read_arguments()
    chosen = [work for work in all_works() if re.search(arguments.works, work.title)]
    if not chosen:
        parser.error(f"--works: no title matches {arguments.works!r}; titles: "
                     + "; ".join(work.title for work in all_works()))
    if arguments.threads < 1 or arguments.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    modules, missing = find_peers()
    for message in missing:
        print(f"compare.py: {message}", file=sys.stderr)
    if not modules:
        print("compare.py: no peer was found", file=sys.stderr)
        return 2
    bench = HeedBench(arguments.heed_bench, arguments.backend, arguments.min_time)
    comparisons, failed = [], False
    for work in chosen:
        comparison = Comparison(work)
        try:
            comparison.run(bench, modules, arguments)
            if comparison.rows:
                comparisons.append(comparison)
            said = "done" if comparison.rows else f"heed_bench has no row with {arguments.threads} threads"
        except Failed as error:
            failed, said = True, str(error)
        print(f"compare.py: {work.title}: {said}", file=sys.stderr)
    if not comparisons:
        return 1
    names = [peer.name for module in modules for peer in module.peers]
    print(describe(bench, modules, arguments), table(comparisons, names), sep="\n\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
