"""Includes between the rooms of include/heed run only along the arrows of rooms.txt.

    check.py <root of the repository>

Prints each include against the arrows, each header without a room, each arrow that no include uses, each include of one
of heed's headers that is not written `<heed/...>`, and each header that is too long. The table of rooms in docs/design.md
must agree with rooms.txt.
"""
import dataclasses
import pathlib
import re
import sys

include_line = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
sources = {".hpp", ".cpp", ".h", ".cc"}
most_lines = 400  # of a header: a longer one has two nouns


@dataclasses.dataclass
class Room:
    name: str
    places: list  # headers, and folders that end with "/", below include/heed
    may: list     # names of the rooms that it may include


def read_rooms(text):
    """The rooms of a rooms.txt, and what is wrong with the list."""
    rooms, problems = {}, []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\w+)(?: \[([^\]]*)\])? ->((?: \w+)*)", line.rstrip())
        if not match:
            problems.append(f"rooms.txt:{number}: not `room [headers] -> rooms`: {line}")
            continue
        name, places, may = match[1], (match[2] or match[1] + "/").split(), match[3].split()
        problems += [f"rooms.txt:{number}: {name} includes {other}, which no earlier line has"
                     for other in may if other not in rooms]
        if name in rooms:
            problems.append(f"rooms.txt:{number}: {name} is there twice")
        rooms[name] = Room(name, places, may)
    return rooms, problems


def room_of(header, rooms):
    """The room of a header, given by its path below include/heed; None if no room has it."""
    for room in rooms.values():
        if any(header == place or (place.endswith("/") and header.startswith(place)) for place in room.places):
            return room
    return None


def check_headers(folder, rooms):
    """Problems of all headers below include/heed, and how many includes between rooms there are."""
    problems, used = [], set()
    headers = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.hpp"))}
    for header, path in headers.items():
        room = room_of(header, rooms)
        if room is None:
            problems.append(f"{header}: in no room of rooms.txt")
            continue
        text = path.read_text()
        if (lines := text.count("\n")) > most_lines:
            problems.append(f"{header}: has {lines} lines, must have at most {most_lines}: split it by noun")
        for match in include_line.finditer(text):
            where = f"{header}:{text.count(chr(10), 0, match.start()) + 1}"
            quote, name = match[1], match[2]
            if quote == '"' or ".." in name.split("/") or name in headers:
                problems.append(f"{where}: {match[0].strip()} must be written <heed/...>")
                continue
            if not name.startswith("heed/"):
                continue  # of another library
            if name[5:] not in headers:
                problems.append(f"{where}: there is no {name}")
                continue
            other = room_of(name[5:], rooms)
            if other is None or other.name == room.name:
                continue
            used.add((room.name, other.name))
            if other.name not in room.may:
                problems.append(f"{where}: {room.name} must not include {other.name}: {name}")
    for room in rooms.values():
        problems += [f"rooms.txt: no header of {room.name} includes {other}"
                     for other in room.may if (room.name, other) not in used]
        problems += [f"rooms.txt: {room.name} has no {place}" for place in room.places
                     if not any(header == place or header.startswith(place) for header in headers)]
    return problems, len(used)


def check_users(root):
    """Includes of heed's headers in other folders."""
    problems = []
    for folder in ("bench", "examples", "tests"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in sources:
                continue
            for match in include_line.finditer(path.read_text(errors="replace")):
                if (match[1] == '"' and match[2].startswith("heed/")) or "include/heed/" in match[2]:
                    problems.append(f"{path.relative_to(root)}: {match[0].strip()} must be written <heed/...>")
    return problems


def check_table(text, rooms):
    """The rows `| room | may include | ...` below the heading Rooms of docs/design.md against the rooms."""
    text = text.partition("## Rooms\n")[2].partition("\n## ")[0]
    rows = {match[1]: match[2].strip() for match in re.finditer(r"^\| `(\w+)` \| ([^|]*)\|", text, re.MULTILINE)}
    problems = []
    for room in rooms.values():
        wanted = "all" if len(room.may) == len(rooms) - 1 else ", ".join(room.may) or "-"
        if rows.get(room.name) != wanted:
            problems.append(f"docs/design.md: the row of {room.name} has {rows.get(room.name)!r}, not {wanted!r}")
    if list(rows) != list(rooms):
        problems.append("docs/design.md: its table does not have the rooms of rooms.txt in their order")
    return problems


def check(root, rooms_text):
    rooms, problems = read_rooms(rooms_text)
    more, arrows = check_headers(root / "include/heed", rooms)
    problems += more + check_users(root) + check_table((root / "docs/design.md").read_text(), rooms)
    return problems, len(rooms), arrows


def main():
    root = pathlib.Path(sys.argv[1])
    problems, rooms, arrows = check(root, (root / "tests/rooms/rooms.txt").read_text())
    print("\n".join(problems))
    print(f"{len(problems)} problems, {rooms} rooms, {arrows} arrows")
    return 1 if problems or rooms < 10 or arrows < 30 else 0


if __name__ == "__main__":
    sys.exit(main())
