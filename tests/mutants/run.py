"""Applies every mutant of a table to a copy of the headers, and expects a killer to notice.

Each mutant: copy include/, replace one text, compile the killer, run it. The killer must fail with the check that the
table names: a crash or a compilation error is no kill. The unchanged headers must pass first.
"""
import argparse
import concurrent.futures
import configparser
import pathlib
import shlex
import shutil
import subprocess
import sys


class Problem(Exception):
    """Something is wrong with the mutant, or it survived."""


def run_killer(args, work, include, killer):
    """Compiles and runs one killer; returns its exit code and output."""
    source, _, variant = killer.partition(" ")
    program = work / "killer"
    command = [args.compiler, "-std=c++20", "-O1", *shlex.split(args.flags), *shlex.split(variant), f"-I{include}",
               f"-I{args.tests}", str(args.tests / "mutants" / f"{source}.cpp"), "-o", str(program)]
    compiled = subprocess.run(command, capture_output=True, text=True)
    if compiled.returncode != 0:
        raise Problem(f"does not compile: {shlex.join(command)}\n{compiled.stderr[:4000]}")
    try:
        ran = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise Problem("the killer hangs") from None
    return ran.returncode, ran.stdout


def expect_pass(args, killer):
    work = args.work / "unchanged" / killer.replace(" ", "")
    work.mkdir(parents=True)
    code, output = run_killer(args, work, args.include, killer)
    if code != 0:
        raise Problem(f"the killer must pass on the library, but exits with {code}\n{output}")


def expect_death(args, name, mutant):
    work = args.work / name
    shutil.copytree(args.include, work / "include")
    path = work / "include" / "heed" / mutant["file"]
    text = path.read_text()
    if text.count(mutant["old"]) != 1:
        raise Problem(f"`old` is {text.count(mutant['old'])} times in {mutant['file']}, must be there once")
    path.write_text(text.replace(mutant["old"], mutant["new"]))
    code, output = run_killer(args, work, work / "include", mutant["killer"])
    if code == 0:
        raise Problem(f"survives, but breaks: {mutant['breaks']}")
    if code != 1 or f"FAILED {mutant['check']}" not in output:
        raise Problem(f"dies with exit code {code}, but not of the check `{mutant['check']}`\n{output}")
    shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--flags", default="", help="for the compiler, such as include folders of third parties")
    parser.add_argument("--include", required=True, type=pathlib.Path)
    parser.add_argument("--tests", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--without", action="append", default=[], help="skip killers with this variant")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("only", nargs="*", help="names of mutants; default all")
    args = parser.parse_args()

    table = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    table.read(args.tests / "mutants" / "mutants.ini")
    mutants = {name: table[name] for name in table.sections() if not args.only or name in args.only}
    mutants = {name: m for name, m in mutants.items() if not any(w in m["killer"] for w in args.without)}
    shutil.rmtree(args.work, ignore_errors=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [(f"unchanged, {killer}", pool.submit(expect_pass, args, killer))
                for killer in sorted({m["killer"] for m in mutants.values()})]
        jobs += [(name, pool.submit(expect_death, args, name, mutant)) for name, mutant in mutants.items()]
        for name, job in jobs:
            try:
                job.result()
            except Problem as problem:
                failed += 1
                print(f"{name}: {problem}", flush=True)
    print(f"{len(mutants)} mutants, {failed} problems", flush=True)
    return 1 if failed or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
