"""include/heed/compiled has every kernel of the lists: backends x key codecs x value codecs x maths, and no other.

    check.py <root of the repository>           prints each header that differs
    check.py --write <root of the repository>   writes the headers

The lists are Backends (simd/backends.hpp), Codecs (codec/codecs.hpp) and Maths (math/maths.hpp). C++ cannot declare
`extern template` in a loop, so the headers are written from the lists.
"""
import pathlib
import re
import sys

headers = {"Backends": "simd/backends.hpp", "Codecs": "codec/codecs.hpp", "Maths": "math/maths.hpp"}


def read_list(folder, name):
    """[(guard, type)] of `using <name> = List<...>;`. The guard is X of `#if HEED_HAS_X`, or empty."""
    text = (folder / headers[name]).read_text()
    match = re.search(rf"using {name} = List<([^;]*)>;", text)
    if not match:
        raise ValueError(f"{headers[name]} has no `using {name} = List<...>;`")
    entries = re.sub(r"#if HEED_HAS_(\w+)\s+", r"\1:", match[1])
    entries = re.sub(r"#endif|\s", "", entries)
    made = []
    for entry in entries.split(","):
        guard, colon, rest = entry.partition(":")
        made.append((guard, rest) if colon and not rest.startswith(":") else ("", entry))
    return made


def header_of(guard, backend):
    """The name of a backend's headers: that of its guard, else of its type."""
    return (guard or backend).lower()


def kernels(folder, backend):
    """The lines of a backend's kernels. The first math is the default, which no line names."""
    codecs = [codec for _, codec in read_list(folder, "Codecs")]
    for number, (_, math) in enumerate(read_list(folder, "Maths")):
        for key in codecs:
            for value in codecs:
                arguments = [backend, key, value] + ([math] if number else [])
                yield f"extern template struct detail::Kernels<{', '.join(arguments)}>;"


def compiled_header(folder, guard, backend):
    name = header_of(guard, backend)
    lines = "\n".join(kernels(folder, backend))
    maths = "#include <heed/math/maths.hpp>\n" if len(read_list(folder, "Maths")) > 1 else ""
    return f"""/// \\file
/// The kernels of the {name} backend, compiled elsewhere: see compiled.hpp. Written by tests/lists/check.py.
#pragma once

#include <heed/attend.hpp>
#include <heed/codec/codecs.hpp>
{maths}#include <heed/simd/{name}.hpp>

namespace heed::inline HEED_ABI {{

{lines}

}}  // namespace heed::inline HEED_ABI
"""


def umbrella(folder):
    """The includes of compiled.hpp, the unguarded ones first."""
    made = ""
    for guard, backend in sorted(read_list(folder, "Backends")):
        line = f"#include <heed/compiled/{header_of(guard, backend)}.hpp>\n"
        made += f"#if HEED_HAS_{guard}\n{line}#endif\n" if guard else line
    return made


def wanted(folder):
    """path below include/heed -> text"""
    made = {}
    for guard, backend in read_list(folder, "Backends"):
        made[f"compiled/{header_of(guard, backend)}.hpp"] = compiled_header(folder, guard, backend)
    head = (folder / "compiled.hpp").read_text().partition("#pragma once\n")
    made["compiled.hpp"] = head[0] + head[1] + "\n" + umbrella(folder)
    return made


def check(root, write=False):
    """Problems, which are gone afterwards if `write`."""
    folder = root / "include/heed"
    problems, files = [], wanted(folder)
    for name, text in files.items():
        path = folder / name
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        missing = sorted(set(text.split("\n")) - set(old.split("\n")))
        extra = sorted(set(old.split("\n")) - set(text.split("\n")))
        problems += [f"include/heed/{name} lacks: {line}" for line in missing]
        problems += [f"include/heed/{name} has, but no list: {line}" for line in extra]
        if not missing and not extra:
            problems.append(f"include/heed/{name} has other lines than the lists, or another order")
        if write:
            path.write_text(text)
    for path in sorted((folder / "compiled").glob("*.hpp")):
        if f"compiled/{path.name}" not in files:
            problems.append(f"include/heed/compiled/{path.name} is of no backend of the list")
    return problems


def main():
    write = "--write" in sys.argv
    problems = check(pathlib.Path([a for a in sys.argv[1:] if a != "--write"][0]), write)
    print("\n".join(problems))
    if problems and not write:
        print("`python3 tests/lists/check.py --write .` writes these headers")
    return 1 if problems and not write else 0


if __name__ == "__main__":
    sys.exit(main())
