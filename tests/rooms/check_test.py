"""What check.py must notice, each in a made-up tree."""
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True  # The sources stay as they are.
import check

ROOMS = """# a comment
low [a.hpp sub/] ->
middle -> low
high -> low middle
"""
TABLE = "| `other` |\n## Rooms\n| `low` | - | x |\n| `middle` | low | x |\n| `high` | all | x |\n"
TREE = {
    "include/heed/a.hpp": "#include <vector>\n",
    "include/heed/sub/b.hpp": "#include <heed/a.hpp>\n",
    "include/heed/middle/c.hpp": "#include <heed/a.hpp>\n",
    "include/heed/middle/deep/d.hpp": "#include <heed/middle/c.hpp>\n",
    "include/heed/high/e.hpp": "#include <Eigen/Core>\n#include <heed/middle/deep/d.hpp>\n# include <heed/sub/b.hpp>\n",
    "tests/e_test.cpp": '#include "e_test.hpp"\n#include <heed/high/e.hpp>\n',
    "docs/design.md": TABLE,
}


class Rooms(unittest.TestCase):
    def problems(self, changes=None, rooms=ROOMS):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in {**TREE, **(changes or {})}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            return check.check(root, rooms)[0]

    def expect(self, problems, *wanted):
        self.assertEqual(len(problems), len(wanted), problems)
        for problem, text in zip(problems, wanted):
            self.assertIn(text, problem)

    def test_accepts_a_tree_along_the_arrows(self):
        self.expect(self.problems())

    def test_include_against_the_arrows(self):
        self.expect(self.problems({"include/heed/a.hpp": "#pragma once\n#include <heed/middle/c.hpp>\n"}),
                    "a.hpp:2: low must not include middle: heed/middle/c.hpp")
        self.expect(self.problems({"include/heed/middle/deep/f.hpp": "  #  include <heed/high/e.hpp>\n"}),
                    "middle/deep/f.hpp:1: middle must not include high")

    def test_header_without_a_room(self):
        self.expect(self.problems({"include/heed/f.hpp": ""}), "f.hpp: in no room")
        self.expect(self.problems({"include/heed/new/f.hpp": ""}), "new/f.hpp: in no room")

    def test_header_that_is_too_long(self):
        self.expect(self.problems({"include/heed/middle/f.hpp": "\n" * 400}))
        self.expect(self.problems({"include/heed/middle/f.hpp": "\n" * 401}), "middle/f.hpp: has 401 lines")

    def test_includes_not_written_in_full(self):
        self.expect(self.problems({"include/heed/middle/f.hpp": '#include "c.hpp"\n'}), "middle/f.hpp:1: ")
        self.expect(self.problems({"include/heed/middle/f.hpp": "#include <a.hpp>\n"}), "middle/f.hpp:1: ")
        self.expect(self.problems({"include/heed/middle/f.hpp": "#include <heed/sub/../a.hpp>\n"}), "middle/f.hpp:1: ")
        self.expect(self.problems({"bench/f.cpp": '#include "heed/a.hpp"\n'}), "bench/f.cpp: ")
        self.expect(self.problems({"examples/f.hpp": '#include "../include/heed/a.hpp"\n'}), "examples/f.hpp: ")

    def test_header_that_does_not_exist(self):
        self.expect(self.problems({"include/heed/middle/f.hpp": "#include <heed/g.hpp>\n"}), "there is no heed/g.hpp")

    def test_arrow_without_an_include(self):
        self.expect(self.problems({"include/heed/middle/c.hpp": ""}), "no header of middle includes low")

    def test_list_of_rooms(self):
        more = TABLE + "| `top` | high | x |\n"
        self.expect(self.problems({"docs/design.md": more, "include/heed/top/f.hpp": "#include <heed/high/e.hpp>\n"},
                                  ROOMS.replace("middle -> low", "middle -> low top") + "top -> high\n"),
                    "rooms.txt:3: middle includes top", "no header of middle includes top",
                    "the row of middle", "the row of high")
        self.expect(self.problems(rooms=ROOMS + "high -> low middle\n"), "is there twice")
        self.expect(self.problems(rooms=ROOMS + "high => low\n"), "rooms.txt:5: not `room")
        self.expect(self.problems(rooms=ROOMS.replace("a.hpp", "a.hpp gone.hpp")), "low has no gone.hpp")

    def test_table_of_the_documentation(self):
        self.expect(self.problems({"docs/design.md": TABLE.replace("| low |", "| - |")}), "the row of middle")
        self.expect(self.problems({"docs/design.md": TABLE + "| `attic` | low | x |\n"}), "in their order")
        self.expect(self.problems({"docs/design.md": TABLE + "\n## More\n| `attic` | low | x |\n"}))


if __name__ == "__main__":
    unittest.main()
