# SPDX-License-Identifier: Apache-2.0
"""Which function erlang._codec finds for which type, and what it makes of a value."""

import array
import collections
import ctypes
import dataclasses
import datetime
import decimal
import enum
import fractions
import mmap
import sys
import types
import unittest
import uuid

from under_test import Atom, Term, load


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: int
    y: object = None
    count = 0


class Point3(Point):
    pass


class Known(unittest.TestCase):
    def setUp(self):
        self.codec = load("_codec")

    def encode(self, value):
        return self.codec.find_encoder(type(value))(value)

    def test_dates_and_times_become_iso_text(self):
        zone = datetime.timezone(datetime.timedelta(hours=2))
        self.assertEqual(self.encode(datetime.date(2024, 2, 29)), "2024-02-29")
        self.assertEqual(self.encode(datetime.time(1, 2, 3, 4)), "01:02:03.000004")
        self.assertEqual(self.encode(datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=zone)), "2024-01-02T03:04:05+02:00")

    def test_decimals_and_uuids_become_text(self):
        self.assertEqual(self.encode(decimal.Decimal("1.10")), "1.10")
        self.assertEqual(self.encode(uuid.UUID(int=1)), "00000000-0000-0000-0000-000000000001")

    def test_members_of_enums_become_their_values(self):
        self.assertEqual(self.encode(Colour.RED), "red")
        self.assertIs(type(self.encode(Number.ONE)), int)

    def test_a_dataclass_becomes_its_fields_and_not_theirs(self):
        inner = Point(1)
        self.assertEqual(self.encode(Point(inner)), {"x": inner, "y": None})
        self.assertEqual(self.encode(Point3(1, 2)), {"x": 1, "y": 2})

    def test_bytes_like_objects_become_bytes(self):
        with mmap.mmap(-1, 4) as mapped:
            mapped[:] = b"abcd"
            self.assertEqual(self.encode(mapped), b"abcd")
        self.assertEqual(self.encode(bytearray(b"a\0")), b"a\0")
        self.assertEqual(self.encode(memoryview(b"abc")[1:]), b"bc")
        self.assertEqual(self.encode(memoryview(b"abcd")[::2]), [97, 99])

    def test_arrays_become_lists(self):
        self.assertEqual(self.encode(array.array("d", [1, 2])), [1.0, 2.0])
        self.assertEqual(self.encode(memoryview(array.array("i", [-1]))), [-1])
        self.assertEqual(self.encode(memoryview(array.array("b", [-1]))), [-1])
        self.assertEqual(self.encode((ctypes.c_int * 2)(1, -2)), [1, -2])
        view = memoryview(bytes(range(6))).cast("B", (2, 3))
        self.assertEqual(self.encode(view), [[0, 1, 2], [3, 4, 5]])

    def test_classes_of_other_modules_are_not_taken_for_those_of_the_same_name(self):
        fake = type("Decimal", (), {"__module__": "decimal"})
        self.assertIsNone(self.codec.find_encoder(fake))

    def test_what_has_no_function_has_none(self):
        pair = collections.namedtuple("Pair", "a b")
        for type_ in (object, fractions.Fraction, complex, range, pair, collections.OrderedDict,
                      type("S", (str,), {}), types.FunctionType, type):
            with self.subTest(type_):
                self.assertIsNone(self.codec.find_encoder(type_))

    def test_what_was_found_is_kept_within_bounds(self):
        for i in range(2 * self.codec.ENCODERS_MAX):
            type_ = type("C%d" % i, (), {})
            self.codec.find_encoder(type_)
            self.assertIn(type_, self.codec.encoders)
            self.assertLessEqual(len(self.codec.encoders), self.codec.ENCODERS_MAX)

    def test_nothing_is_imported_for_it(self):
        self.assertNotIn("numpy", sys.modules)


class Registered(unittest.TestCase):
    def setUp(self):
        self.codec = load("_codec")

    def test_an_encoder_holds_for_subclasses_and_the_nearest_one_wins(self):
        self.codec.register_encoder(Point, lambda p: "point")
        self.assertEqual(self.codec.find_encoder(Point3)(None), "point")
        self.codec.register_encoder(Point3, lambda p: "point3")
        self.assertEqual(self.codec.find_encoder(Point3)(None), "point3")
        self.assertEqual(self.codec.find_encoder(Point)(None), "point")

    def test_an_encoder_replaces_what_is_known_and_what_was_found(self):
        self.assertIs(self.codec.find_encoder(decimal.Decimal), str)
        self.codec.register_encoder(decimal.Decimal, float)
        self.assertEqual(self.codec.encoders, {})
        self.assertIs(self.codec.find_encoder(decimal.Decimal), float)

    def test_types_that_are_fixed_are_refused(self):
        for type_ in (int, str, float, bool, type(None), bytes, list, tuple, dict, set, frozenset, Atom, Term):
            with self.subTest(type_), self.assertRaises(TypeError):
                self.codec.register_encoder(type_, str)

    def test_what_is_no_type_or_not_callable_is_refused(self):
        with self.assertRaises(TypeError):
            self.codec.register_encoder("int", str)
        with self.assertRaises(TypeError):
            self.codec.register_encoder(Point, 5)
        with self.assertRaises(TypeError):
            self.codec.register_decoder("tag", None)
        with self.assertRaises(TypeError):
            self.codec.register_decoder(5, str)

    def test_decoders_are_found_by_the_text_of_the_tag(self):
        self.codec.register_decoder(Atom("point"), Point)
        self.assertEqual(self.codec.decoders, {"point": Point})
        self.assertIs(type(next(iter(self.codec.decoders))), str)
        for tag in ("bytes", "buffer", Atom("bytes")):
            with self.subTest(tag), self.assertRaises(ValueError):
                self.codec.register_decoder(tag, Point)


if __name__ == "__main__":
    unittest.main()
