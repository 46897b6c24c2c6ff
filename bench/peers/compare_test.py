"""The comparison: its works are rows of heed_bench, its table shows losses, and failures end it with the right code.

    compare_test.py <heed_bench>

Needs no peer: those of the tests are made here.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types
import unittest

folder = pathlib.Path(__file__).parent
sys.path.insert(0, str(folder))
sys.dont_write_bytecode = True
import compare  # noqa: E402
from failed import Failed  # noqa: E402
from heed_rows import HeedBench, Row, read_row  # noqa: E402
from works import all_works  # noqa: E402

heed_bench = ""


def entry(name, **others):
    return {"name": name, "run_name": name, "real_time": 2000.0, "time_unit": "ns", "label": "read_dram fma_f32",
            "frac_bandwidth": 0.5, "frac_peak": 0.25, "frac_roof": 0.5, **others}


class Peer:
    def __init__(self, name, *seconds):
        self.name, self.error, self.times = name, 0.0, list(seconds)

    def can(self, work):
        return bool(self.times)

    def seconds(self, work, rows, threads, min_time):
        return self.times.pop(0)


class Comparisons(unittest.TestCase):
    def setUp(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.folder = pathlib.Path(made.name)

    def program(self, entries, code=0):
        """A heed_bench that prints these entries."""
        path = self.folder / "heed_bench"
        report = json.dumps({"context": {"cpu": "toy"}, "benchmarks": entries})
        path.write_text(f"#!{sys.executable}\nimport sys\nprint({report!r})\nsys.exit({code})\n")
        path.chmod(0o755)
        return path

    def run_compare(self, *arguments, **environment):
        return subprocess.run([sys.executable, "-B", str(folder / "compare.py"), *map(str, arguments)],
                              capture_output=True, text=True, env={**os.environ, **environment})

    def test_every_work_is_a_row_of_heed_bench(self):
        listed = subprocess.run([heed_bench, "--benchmark_list_tests", "--benchmark_filter=."], check=True,
                                capture_output=True, text=True).stdout.split()
        for work in all_works():
            pattern = re.compile(work.row.format(loops="[a-z]+", threads=1) + "$")
            self.assertTrue(any(pattern.match(name) for name in listed), work.row)

    def test_rows_are_read_by_math(self):
        work = all_works()[0]
        names = [work.row.format(loops=loops, threads=1) for loops in ("xsimd", "xsimd+bf16")]
        faster = entry(names[1], real_time=1.0, time_unit="us", label="read_l3 dot_bf16", frac_peak=0.75,
                       frac_roof=0.75)
        bench = HeedBench(self.program([entry(names[0]), faster, entry("decode/other")]))
        self.assertEqual(bench.rows(work, 1),
                         {"f32": Row(2e-6, 0.5, "read_dram"), "bf16": Row(1e-6, 0.75, "dot_bf16")})
        self.assertEqual(bench.context, {"cpu": "toy"})

    def test_a_row_without_instructions_is_bound_by_its_source(self):
        self.assertEqual(read_row(entry("a", label="read_l2")).bound, "read_l2")

    def test_wrong_answers_and_broken_programs_are_failures(self):
        work = all_works()[0]
        wrong = entry(work.row.format(loops="xsimd", threads=1), error_occurred=True, error_message="wrong answer: 7")
        with self.assertRaisesRegex(Failed, "wrong answer: 7"):
            HeedBench(self.program([wrong], code=1)).rows(work, 1)
        with self.assertRaisesRegex(Failed, "ended with 1"):
            HeedBench(self.program([], code=1)).rows(work, 1)
        with self.assertRaisesRegex(Failed, "No such file"):
            HeedBench(self.folder / "none").rows(work, 1)

    def test_a_line_for_each_math_with_losses_in_bold(self):
        work = all_works()[0]
        comparison = compare.Comparison(work)
        names = [work.row.format(loops=loops, threads=1) for loops in ("xsimd", "xsimd+bf16")]
        bench = HeedBench(self.program([entry(names[0]), entry(names[1], real_time=1000.0)]))
        module = types.SimpleNamespace(Rows=lambda work: work, peers=[Peer("a", 1e-6, 1.5e-6, 9e-6), Peer("b")])
        comparison.run(bench, [module], types.SimpleNamespace(rounds=3, threads=1, min_time=0.1))
        self.assertEqual(comparison.lines(["a", "b"]),
                         [f"| {work.title}, f32 | 2.00 | 50 read_dram | **1.50 (0.75)** | - |",
                          f"| {work.title}, bf16 | 1.00 | 50 read_dram | 1.50 (1.50) | - |"])

    def test_a_missing_peer_is_named(self):
        (self.folder / "torch.py").write_text("raise ImportError('No module named toy')\n")
        (self.folder / "llama_cpp.py").write_text("")  # has no libraries of ggml
        run = self.run_compare(self.program([]), PYTHONPATH=str(self.folder))
        self.assertEqual(run.returncode, 2)
        self.assertRegex(run.stderr, "torch cannot be imported by .*No module named toy.*pip install torch")
        self.assertRegex(run.stderr, "llama-cpp-python cannot be imported by .*pip install llama-cpp-python")

    def test_an_unknown_work_is_an_error_of_usage(self):
        run = self.run_compare(self.program([]), "--works", "nothing")
        self.assertEqual(run.returncode, 2)
        self.assertIn("no title matches 'nothing'", run.stderr)


if __name__ == "__main__":
    heed_bench = sys.argv.pop(1)
    unittest.main()
