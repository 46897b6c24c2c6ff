"""Applies every mutant of a table to the headers, and expects a killer to notice.

A killer is compiled once for its mutants, each of which has a switch in changed copies of the headers (switches.py). With
no switch set it must pass; with a mutant's, it must fail with the check that the table names: a crash or a compilation
error is no kill. A mutant outside any block of code, or one that only shows in what the compiler computes, gets headers
and a compilation of its own.
"""
import argparse
import configparser
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True  # The sources stay as they are.
import switches


class Problem(Exception):
    """Something is wrong with the mutant, or it survived."""


class DoesNotCompile(Problem):
    pass


def compile_killer(args, killer, headers):
    """Compiles a killer with these headers ({path: text}) in place of the library's; returns the program."""
    shutil.rmtree(args.work, ignore_errors=True)
    for path, text in headers.items():
        (args.work / "heed" / path).parent.mkdir(parents=True, exist_ok=True)
        (args.work / "heed" / path).write_text(text)
    args.work.mkdir(parents=True, exist_ok=True)
    source, _, variant = killer.partition(" ")
    here = args.tests / "mutants"
    command = [args.compiler, "-std=c++20", "-O1", *shlex.split(args.flags), *shlex.split(variant), f"-I{args.work}",
               f"-I{args.include}", f"-I{args.tests}", "-include", str(here / "chosen.hpp"), str(here / f"{source}.cpp"),
               "-o", str(args.work / "killer")]
    compiled = subprocess.run(command, capture_output=True, text=True)
    if compiled.returncode != 0:
        raise DoesNotCompile(f"does not compile: {shlex.join(command)}\n{compiled.stderr[:4000]}")
    return args.work / "killer"


def run(program, number=0):
    """The killer's exit code and output, with the switch of that number set."""
    try:
        ran = subprocess.run([str(program)], capture_output=True, text=True, timeout=60,
                             env={**os.environ, "HEED_MUTANT": str(number)})
    except subprocess.TimeoutExpired:
        raise Problem("the killer hangs") from None
    return ran.returncode, ran.stdout


def expect_death(mutant, code, output):
    if code == 0:
        raise Problem(f"survives, but breaks: {mutant['breaks']}")
    if code != 1 or f"FAILED {mutant['check']}" not in output:
        raise Problem(f"dies with exit code {code}, but not of the check `{mutant['check']}`\n{output}")


def header(args, mutant):
    text = (args.include / "heed" / mutant["file"]).read_text()
    if text.count(mutant["old"]) != 1:
        raise Problem(f"`old` is {text.count(mutant['old'])} times in {mutant['file']}, must be there once")
    return text


class Run:
    """All mutants of one killer. Those that did not die end up in `problems`, by name."""

    def __init__(self, args, killer, mutants):
        self.args, self.killer, self.mutants = args, killer, mutants
        self.problems = {}
        self.alone = []
        files = {}
        for number, (name, mutant) in enumerate(mutants.items(), 1):
            try:
                header(args, mutant)
                files.setdefault(mutant["file"], []).append((number, mutant["old"], mutant["new"]))
            except Problem as problem:
                self.problems[name] = problem
        mistakes = [(file, mistake) for file, found in files.items()
                    for mistake in switches.find((args.include / "heed" / file).read_text(), found)]
        switched = [mistake for mistake in mistakes if mistake[1].block]
        self.alone += [self.name(mistake) for _, mistake in mistakes if not mistake.block]
        self.kill_switched(switched)
        for name in self.alone:
            self.kill_alone(name)

    def name(self, mistake):
        return list(self.mutants)[mistake.number - 1]

    def kill_switched(self, mistakes):
        headers = {}
        for file in {file for file, _ in mistakes}:
            text = (self.args.include / "heed" / file).read_text()
            headers[file] = switches.write(text, [mistake for of, mistake in mistakes if of == file])
        try:
            program = compile_killer(self.args, self.killer, headers)
        except DoesNotCompile as problem:  # with one of the switches, which halving finds
            if not mistakes:
                self.problems["unchanged"] = problem
            elif len(mistakes) == 1:
                self.alone.append(self.name(mistakes[0][1]))
            else:
                self.kill_switched(mistakes[:len(mistakes) // 2])
                self.kill_switched(mistakes[len(mistakes) // 2:])
            return
        code, output = run(program)
        if code != 0:
            self.problems["unchanged"] = Problem(f"the killer must pass on the library, but exits with {code}\n{output}")
        for _, mistake in mistakes:
            self.expect_death(self.name(mistake), program, mistake.number)

    def kill_alone(self, name):
        mutant = self.mutants[name]
        text = header(self.args, mutant).replace(mutant["old"], mutant["new"])
        try:
            program = compile_killer(self.args, self.killer, {mutant["file"]: text})
        except DoesNotCompile as problem:
            self.problems[name] = problem
            return
        self.expect_death(name, program)

    def expect_death(self, name, program, number=0):
        try:
            code, output = run(program, number)
            if code == 0 and number > 0:
                self.alone.append(name)  # It may show only in what the compiler computes.
            else:
                expect_death(self.mutants[name], code, output)
        except Problem as problem:
            self.problems[name] = problem


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--flags", default="", help="for the compiler, such as include folders of third parties")
    parser.add_argument("--include", required=True, type=pathlib.Path)
    parser.add_argument("--tests", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--killer", help="only the mutants of this killer, with whatever flags")
    parser.add_argument("--without", action="append", default=[], help="skip killers with this variant")
    parser.add_argument("only", nargs="*", help="names of mutants; default all")
    args = parser.parse_args()

    table = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    table.read(args.tests / "mutants" / "mutants.ini")
    killers = {}
    for name in table.sections():
        killer = table[name]["killer"]
        if not (args.tests / "mutants" / f"{killer.split()[0]}.cpp").exists():
            parser.error(f"{name}: there is no {killer.split()[0]}.cpp")
        if args.only and name not in args.only or args.killer and killer.split()[0] != args.killer:
            continue
        if not any(without in killer for without in args.without):
            killers.setdefault(killer, {})[name] = table[name]
    failed = 0
    for killer, mutants in killers.items():
        done = Run(args, killer, mutants)
        failed += len(done.problems)
        for name, problem in done.problems.items():
            print(f"{name}, {killer}: {problem}", flush=True)
        alone = f", {len(done.alone)} compiled alone ({', '.join(done.alone)})" if done.alone else ""
        print(f"{killer}: {len(mutants)} mutants{alone}, {len(done.problems)} problems", flush=True)
    if not failed:
        shutil.rmtree(args.work, ignore_errors=True)
    return 1 if failed or not killers else 0


if __name__ == "__main__":
    sys.exit(main())
