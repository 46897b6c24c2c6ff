"""Comments of the public headers name only what exists, what a user fills in is described, and a word has one meaning.

    check.py <root of the repository>

Of every comment under include/: `name()` is a function of heed's, `scope::name` are names of heed's, `x/y.hpp` and
`docs/y.md` are files. Every public struct or class of a header has a /// comment. No header uses a word of `vocabulary`
for another thing than docs/glossary.md says.
"""
import pathlib
import re
import sys

# heed's targets in CMake.
targets = {"heed::heed", "heed::kernels"}
# What comments name of other libraries, programs and papers.
foreign = {"fork", "mmap", "madvise", "free", "mlock", "main", "pthread_atfork", "clone", "memcmp"}
# (headers, expression, what to say instead). Lines are read with their comments, but without #include.
vocabulary = [
    ("kernel/", r"(?<![A-Za-z])[Ll]anes?(?![a-z])", "slot: a lane is an element of a SIMD register"),
    ("(?!simd/|ternary/)", r"\bTile\b|(?<!\w)(?:stage_|slot_)?tile\(", "RowRun, row_run(): a tile is a block in registers"),
    ("", r"\bShape\b", "the shape's thing, as in TaskShape"),
    ("", r"\b(?:LayerView|MlaForm::absorbed_full_width|first_lane)\b", "LayerKeys, MlaCount, first_slot"),
    ("kernel/", r"\bseen\b", "visible: seen, kept and evicted count tokens"),
    ("", r"//.*(?:,? \btoo\b[.,;:)]|\bas they are\b|\bbeside\b|\bso many\b)", "a sentence that names what it means"),
]


def parts(text):
    """Code without comments and strings, and comments as (line, text)."""
    code, comments = [], []
    for number, line in enumerate(text.split("\n"), 1):
        line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
        begin = line.find("//")
        if begin >= 0:
            comments.append((number, line[begin:]))
            line = line[:begin]
        code.append(line)
    return "\n".join(code), comments


def main():
    root = pathlib.Path(sys.argv[1])
    headers = sorted((root / "include").rglob("*.hpp"))
    files = {header: parts(header.read_text()) for header in headers}
    words = set(re.findall(r"\w+", "\n".join(code for code, _ in files.values())))
    problems, seen = [], 0
    for header, (code, comments) in files.items():
        where = header.relative_to(root)
        for number, comment in comments:
            for name in re.findall(r"(?<![\w:.>])(\w+)\(\)", comment):
                seen += 1
                if name not in words | foreign:
                    problems.append(f"{where}:{number}: there is no {name}()")
            for scope, name in re.findall(r"\b(\w+)::(\w+)", comment):
                seen += 1
                if scope != "std" and f"{scope}::{name}" not in targets and not {scope, name} <= words:
                    problems.append(f"{where}:{number}: there is no {scope}::{name}")
            for name in re.findall(r"[\w/]+\.(?:hpp|md)\b", comment):
                seen += 1
                places = [root / name, root / "include" / name, root / "include/heed" / name, header.parent / name]
                if not any(place.exists() for place in places):
                    problems.append(f"{where}:{number}: there is no {name}")
            if re.search(r"\(spec[:,]", comment):
                problems.append(f"{where}:{number}: there is no spec")
        lines = header.read_text().split("\n")
        place = header.relative_to(root / "include/heed").as_posix()
        for number, line in enumerate(lines, 1):
            for folder, expression, instead in vocabulary:
                if re.match(folder, place) and not line.startswith("#include") and re.search(expression, line):
                    problems.append(f"{where}:{number}: say {instead}")
        inside = ""
        for number, line in enumerate(lines, 1):
            if match := re.match(r"namespace ([\w: ]+)", line):
                inside = match[1]
            elif line.startswith("}  // namespace"):
                inside = ""
            match = re.match(r"(?:struct|class) (?:\[\[\w+\]\] )?(\w+)(?: final)?(?: :[^:].*)? \{", line)
            if not match or "detail" in inside:
                continue
            seen += 1
            above = number - 2
            while above >= 0 and re.match(r"(template|  requires|requires)", lines[above]):
                above -= 1
            if not lines[above].startswith("///"):
                problems.append(f"{where}:{number}: {match[1]} has no /// comment")
    print("\n".join(problems))
    print(f"{len(problems)} problems, {seen} names")
    return 1 if problems or seen < 300 else 0


if __name__ == "__main__":
    sys.exit(main())
