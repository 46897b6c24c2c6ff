"""Compiles one unit up to three times and fails if even the fastest took more CPU time than the limit.

User time of the compiler depends less on what else the machine does than elapsed time; on a loaded virtual machine it
still grew by a third, which is why the entry runs alone.
"""
import resource
import subprocess
import sys


def user_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(command, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main():
    limit, command = float(sys.argv[1]), sys.argv[2:]
    seconds = []
    while len(seconds) < 3 and min(seconds, default=limit + 1) > limit:
        seconds.append(user_seconds(command))
    print("compiled in " + ", ".join(f"{s:.2f}" for s in seconds) + f" s of CPU time, limit {limit} s")
    return 0 if min(seconds) <= limit else 1


if __name__ == "__main__":
    sys.exit(main())
