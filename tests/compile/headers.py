"""Every header of a library alone: it includes what it needs, and may be included twice.

    headers.py <include folder> <share> <shares> <folder to write to> <header>... -- <compiler> <flag>...

Most headers include each other, so one unit can check several: where `b` includes `a` anyway, `#include <a>` before `#include <b>`
gives `b` nothing that it lacks, only the order differs. The headers are cut into as few such chains as there can be (a matching
of each header with one that it includes, however far down), and each chain is one unit of the compiler. Only includes that no
`#if` decides count.

The share of all units numbered `share` is compiled. Prints what the compiler says of the others, and fails.
"""
import pathlib
import re
import subprocess
import sys

directive = re.compile(r'^[ \t]*#[ \t]*(if|ifdef|ifndef|endif|include)\b[ \t]*(?:[<"]([^>"]+)[>"])?', re.MULTILINE)


def includes(text):
    """What a header includes under no condition."""
    found, depth = [], 0
    for word, name in directive.findall(text):
        if word == "include":
            if depth == 0:
                found.append(name)
        else:
            depth += -1 if word == "endif" else 1
    return found


def closures(direct):
    """What each header includes, itself left out, however far down. A circle is an error."""
    closed = {}

    def close(header, path):
        if header in path:
            raise SystemExit("includes in a circle: " + " -> ".join(path[path.index(header):] + [header]))
        if header not in closed:
            below = set()
            for other in direct[header]:
                below |= {other} | close(other, path + [header])
            closed[header] = below
        return closed[header]

    for header in direct:
        close(header, [])
    return closed


def chains(closed):
    """The headers in as few lists as there can be, each header after one that it includes."""
    after = {}  # the header that comes next in a chain

    def place(header, tried):
        for below in sorted(closed[header]):
            if below not in tried:
                tried.add(below)
                if below not in after or place(after[below], tried):
                    after[below] = header
                    return True
        return False

    not_first = {header for header in sorted(closed) if place(header, set())}
    made = []
    for header in sorted(set(closed) - not_first):
        chain = [header]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        made.append(chain)
    return made


def main():
    folder, share, shares, work = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), pathlib.Path(sys.argv[4])
    end = sys.argv.index("--")
    headers, command = sys.argv[5:end], sys.argv[end + 1:]
    direct = {header: includes((folder / header).read_text()) for header in headers}
    direct = {header: [other for other in found if other in direct] for header, found in direct.items()}
    units = chains(closures(direct))
    if sorted(header for unit in units for header in unit) != sorted(headers):
        raise SystemExit("not every header is in one unit")
    work.mkdir(parents=True, exist_ok=True)
    failed = 0
    for number in range(share, len(units), shares):
        source = work / f"{number}.cpp"
        source.write_text("".join(f"#include <{header}>\n" * 2 for header in units[number]))
        failed += subprocess.run(command + ["-fsyntax-only", str(source)]).returncode != 0
    print(f"{len(headers)} headers in {len(units)} units, {failed} of this share failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
