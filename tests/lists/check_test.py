"""A codec that is added to its list, and nowhere else, reaches the compiled kernels, the build and the tests.

    check_test.py <root of the repository> <cmake> [<compiler and flags...> -- <libraries of gtest...>]

Works on a copy of the headers. Without a compiler, what needs one is left out.
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check  # noqa: E402

root, cmake, compiler, libraries = pathlib.Path(), "cmake", [], []


class Lists(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.heed = self.root / "include/heed"
        shutil.copytree(root / "include", self.root / "include")

    def edit(self, name, old, new):
        path = self.heed / name
        text = path.read_text()
        self.assertEqual(text.count(old), 1, name)
        path.write_text(text.replace(old, new))

    def add_toy(self):
        """bf16 by another name: one header, one include, one entry."""
        toy = (self.heed / "codec/bf16.hpp").read_text().replace("Bf16", "Toy").replace('"bf16"', '"toy"')
        (self.heed / "codec/toy.hpp").write_text(toy)
        self.edit("codec/codecs.hpp", "#include <heed/codec/f32.hpp>\n",
                  "#include <heed/codec/f32.hpp>\n#include <heed/codec/toy.hpp>\n")
        self.edit("codec/codecs.hpp", "List<F32, Bf16, F16>", "List<F32, Bf16, F16, Toy>")

    def read_by_cmake(self, name):
        script = self.root / "read.cmake"
        script.write_text(f'set(HEED_INCLUDE_DIR "{self.root}/include")\ninclude("{root}/cmake/HeedLists.cmake")\n'
                          f'heed_read_list(types {name})\nmessage("${{types}}")\n')
        return subprocess.run([cmake, "-P", script], check=True, capture_output=True, text=True).stderr.strip()

    def test_the_tree_is_right(self):
        self.assertEqual(check.check(root), [])

    def test_a_codec_is_noticed_and_its_kernels_are_written(self):
        self.add_toy()
        line = "extern template struct detail::Kernels<Scalar, Bf16, Toy>;"
        problems = check.check(self.root)
        self.assertEqual(len(problems), 3 * 7 * 2)  # backends, pairs of codecs, maths
        self.assertIn(f"include/heed/compiled/scalar.hpp lacks: {line}", problems)
        check.check(self.root, write=True)
        self.assertEqual(check.check(self.root), [])
        self.assertIn(line, (self.heed / "compiled/scalar.hpp").read_text())

    def test_a_kernel_that_is_missing_or_of_no_list_is_noticed(self):
        line = "extern template struct detail::Kernels<EigenPackets, F16, F32>;\n"
        self.edit("compiled/eigen.hpp", line, "")
        self.assertEqual(check.check(self.root), [f"include/heed/compiled/eigen.hpp lacks: {line.strip()}"])
        self.edit("compiled/eigen.hpp", "namespace heed::inline HEED_ABI {\n\n",
                  "namespace heed::inline HEED_ABI {\n\n" + line + line.replace("F16", "F8"))
        self.assertTrue(check.check(self.root))

    def test_a_backend_and_a_math_have_kernels(self):
        self.edit("simd/backends.hpp", "    Scalar>;", "#if HEED_HAS_NEW\n    New<8>,\n#endif\n    Scalar>;")
        self.edit("math/maths.hpp", "List<math::F32, math::Bf16>", "List<math::F32, math::Bf16, math::Toy>")
        problems = check.check(self.root)
        for line in ("extern template struct detail::Kernels<New<8>, F32, F32>;",
                     "extern template struct detail::Kernels<New<8>, F32, F32, math::Toy>;"):
            self.assertIn(f"include/heed/compiled/new.hpp lacks: {line}", problems)
        self.assertIn("include/heed/compiled.hpp lacks: #include <heed/compiled/new.hpp>", problems)

    def test_the_build_reads_the_lists(self):
        self.add_toy()
        self.assertEqual(self.read_by_cmake("Codecs"), "F32;Bf16;F16;Toy")
        self.assertEqual(self.read_by_cmake("Maths"), "math::F32;math::Bf16")
        for name in check.headers:
            types = [entry for _, entry in check.read_list(self.heed, name)]
            self.assertEqual(self.read_by_cmake(name), ";".join(types))

    def test_tests_run_on_the_codec(self):
        if not compiler:
            self.skipTest("no compiler")
        self.add_toy()
        program = self.root / "row_test"
        subprocess.run([*compiler[:1], f"-I{self.root}/include", f"-I{root}/tests", *compiler[1:],
                        str(root / "tests/codec/row_test.cpp"), "-o", str(program), *libraries],
                       check=True)
        tests = subprocess.run([program, "--gtest_list_tests"], check=True, capture_output=True, text=True).stdout
        self.assertRegex(tests, r"CodecRows/3\.  # TypeParam = heed::.*Toy")
        subprocess.run([program, "--gtest_brief=1"], check=True)


if __name__ == "__main__":
    root, cmake, compiler = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if compiler:
        at = compiler.index("--")
        compiler, libraries = compiler[:at], compiler[at + 1:]
    unittest.main(argv=sys.argv[:1])
