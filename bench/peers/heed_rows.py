"""Rows of heed_bench: times, and fractions of the limits that it measured in the same run."""
import dataclasses
import json
import re
import subprocess

from failed import Failed


@dataclasses.dataclass(frozen=True)
class Row:
    seconds: float
    roof: float  # time at the limits over time taken
    bound: str  # the limit that binds


class HeedBench:
    """The program at `path`, on the rows of one backend."""

    def __init__(self, path, backend="xsimd", min_time=0.25):
        self.path, self.backend, self.min_time = path, backend, min_time
        self.context = {}  # of the last run: processor, version, limits

    def rows(self, work, threads):
        """{math: Row} of a work: one row for every math that heed_bench has it in. Raises Failed."""
        loops = re.escape(self.backend) + "([+]([a-z0-9_]+))?"  # of the default math without +
        pattern = "^" + work.row.format(loops=loops, threads=threads) + "$"
        command = [self.path, f"--benchmark_filter={pattern}", "--benchmark_format=json", "--benchmark_repetitions=1",
                   f"--benchmark_min_time={self.min_time}"]
        try:
            run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise Failed(f"{self.path}: {error.strerror}") from error
        if run.returncode == 2 and not run.stdout.strip():
            return {}
        try:
            report = json.loads(run.stdout)
        except ValueError:
            said = run.stderr.strip()[-300:]
            raise Failed(f"{self.path} {command[1]} ended with {run.returncode}: {said}") from None
        self.context = report["context"]
        rows = {}
        for entry in report["benchmarks"]:
            if entry.get("error_occurred"):
                raise Failed(f"{entry['name']}: {entry['error_message']}")
            match = re.match(pattern, entry["run_name"])
            if match:
                rows[match[2] or "f32"] = read_row(entry)
        if run.returncode not in (0, 2):
            raise Failed(f"{self.path} {command[1]} ended with {run.returncode}")
        return rows


def read_row(entry):
    """The Row of an entry of Google Benchmark's JSON. The label names the limits of reading and of arithmetic."""
    units = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1}[entry["time_unit"]]  # in a second
    read, _, math = entry["label"].partition(" ")
    bound = math if math and entry.get("frac_peak", 0) > entry.get("frac_bandwidth", 0) else read
    return Row(entry["real_time"] / units, entry["frac_roof"], bound)
