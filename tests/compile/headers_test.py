"""What headers.py must see in includes, and that its units let no header lean on another."""
import sys
import unittest

sys.dont_write_bytecode = True  # The sources stay as they are.
import headers


class Units(unittest.TestCase):
    def test_includes_under_a_condition_do_not_count(self):
        text = "#pragma once\n#include <a>\n#if X\n# include <b>\n#ifdef Y\n#include <c>\n#endif\n#endif\n#include \"d\"\n"
        self.assertEqual(headers.includes(text), ["a", "d"])

    def test_a_circle_is_an_error(self):
        with self.assertRaisesRegex(SystemExit, "circle: a -> b -> a"):
            headers.closures({"a": ["b"], "b": ["a"]})

    def test_each_header_comes_after_one_that_it_includes(self):
        direct = {"a": [], "b": [], "c": ["a", "b"], "d": ["c"], "e": ["c"], "f": ["b"], "g": ["d", "f"]}
        closed = headers.closures(direct)
        self.assertEqual(closed["g"], {"a", "b", "c", "d", "f"})
        units = headers.chains(closed)
        self.assertEqual(sorted(header for unit in units for header in unit), sorted(direct))
        self.assertEqual(len(units), 3)  # of d, e and f none includes another
        for unit in units:
            for before, header in zip(unit, unit[1:]):
                self.assertIn(before, closed[header])


if __name__ == "__main__":
    unittest.main()
