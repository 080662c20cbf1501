# SPDX-License-Identifier: Apache-2.0
"""What erlang._plain tells of values in messages: never a handle, never an error."""

import dataclasses
import datetime
import enum
import unittest

from under_test import Atom, load

module = load("_plain")
plain = module.plain


class Plain(unittest.TestCase):
    def test_what_erlang_can_hold_stays_as_it_is(self):
        pid = module.Term()
        for value in (None, True, 5, 2 ** 70, 1.5, "ä\0", b"\xff", Atom("a"), pid, [1, (2, {"a": [None]})], (), {}):
            with self.subTest(value):
                told = plain(value)
                self.assertEqual((told, type(told)), (value, type(value)))

    def test_what_has_an_encoder_is_encoded(self):
        @dataclasses.dataclass
        class Point:
            x: int
            y: object

        class Colour(enum.Enum):
            RED = "red"

        self.assertEqual(plain([datetime.date(2020, 1, 2), Colour.RED, Point(1, Colour.RED), {3}, bytearray(b"a")]),
                         ["2020-01-02", "red", {"x": 1, "y": "red"}, [3], b"a"])

    def test_anything_else_is_told_by_its_repr(self):
        for value in (object(), len, type, lambda: 0, 1j, range(3)):
            with self.subTest(value):
                self.assertEqual(plain({"a": [value]}), {"a": [repr(value)]})

    def test_an_object_that_fails_is_told(self):
        class Broken:
            def __repr__(self):
                raise ValueError

        class List(list):
            def __iter__(self):
                raise ValueError

        @dataclasses.dataclass
        class Incomplete:
            x: int

        incomplete = Incomplete(1)
        del incomplete.x
        self.assertEqual(plain(Broken()), "<repr() failed>")
        self.assertEqual(plain([List([1])]), ["[1]"])
        self.assertEqual(plain(incomplete), "<repr() failed>")

    def test_what_holds_itself_ends(self):
        loop = [1]
        loop.append(loop)
        self.assertEqual(plain(loop), [1, "[1, [...]]"])
        twice = [1]
        self.assertEqual(plain([twice, twice]), [[1], [1]])
        deep = []
        for _ in range(100000):
            deep = [deep]
        plain(deep)

    def test_text_is_made_UTF8(self):
        class Text(str):
            def __str__(self):
                raise ValueError

        self.assertEqual(plain(["\ud800", Text("a\udfff")]), ["\\ud800", "a\\udfff"])
        self.assertIs(type(plain(Text("a"))), str)

    def test_keys_stay_hashable(self):
        key = frozenset([1])
        self.assertEqual(plain({(1, "\ud800"): 1, key: 2, object: 3}), {(1, "\\ud800"): 1, repr(key): 2, repr(object): 3})


if __name__ == "__main__":
    unittest.main()
