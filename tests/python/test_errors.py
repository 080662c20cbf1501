# SPDX-License-Identifier: Apache-2.0
"""What erlang._errors tells of an exception, also of one that is broken."""

import sys
import unittest

from under_test import Atom, Error, load

errors = load("_errors", type_atom=lambda error: Atom(type(error).__name__))


def caught(f):
    try:
        f()
    except BaseException as error:
        return error


def describe(f):
    return errors.describe(caught(f))


def fail(*_):
    raise RuntimeError("broken")


class Describe(unittest.TestCase):
    def test_all_parts_are_there(self):
        def inner():
            return 1 / 0  # the line

        info = describe(inner)
        self.assertEqual((info["type"], info["module"], info["message"], info["notes"], info["cause"], info["context"]),
                         ("ZeroDivisionError", "builtins", "division by zero", [], None, None))
        self.assertEqual([f["function"] for f in info["traceback"]], ["caught", "inner"])
        last = info["traceback"][-1]
        self.assertEqual((last["file"], last["code"]), (__file__, "return 1 / 0  # the line"))
        self.assertIsInstance(last["line"], int)
        self.assertTrue(all(type(key) is Atom for key in [*info, *last]))

    def test_causes_and_contexts_are_told(self):
        def chained(suppress):
            try:
                raise KeyError("a")
            except KeyError as error:
                if suppress:
                    raise ValueError("b") from None
                new = ValueError("b")
                new.__cause__ = TypeError("c")
                new.__suppress_context__ = False
                raise new

        info = describe(lambda: chained(False))
        self.assertEqual((info["cause"]["type"], info["context"]["type"]), ("TypeError", "KeyError"))
        info = describe(lambda: chained(True))
        self.assertEqual((info["cause"], info["context"]), (None, None))

    def test_chains_are_bounded_and_cycles_are_cut(self):
        a, b = ValueError("a"), ValueError("b")
        a.__cause__, b.__cause__ = b, a
        self.assertIsNone(errors.describe(a)["cause"]["cause"])
        first = last = ValueError(0)
        for i in range(1000):
            last.__context__ = ValueError(i)
            last = last.__context__
        depth, info = 0, errors.describe(first)
        while info is not None:
            depth, info = depth + 1, info["context"]
        self.assertEqual(depth, errors.DEPTH_MAX)

    def test_tracebacks_keep_the_innermost_frames(self):
        def deep(n):
            return deep(n - 1) if n else fail()

        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(5000)
        try:
            frames = describe(lambda: deep(2000))["traceback"]
        finally:
            sys.setrecursionlimit(limit)
        self.assertEqual((len(frames), frames[-1]["function"]), (errors.FRAMES_MAX, "fail"))

    def test_notes_are_told_as_text(self):
        error = ValueError("x")
        error.__notes__ = ["a", 5, "\ud800"]
        self.assertEqual(errors.describe(error)["notes"], ["a", "5", "\\ud800"])
        error.__notes__ = "no list"
        self.assertEqual(errors.describe(error)["notes"], [])

    @unittest.skipIf(sys.version_info < (3, 11), "there are no exception groups before 3.11")
    def test_groups_tell_their_exceptions(self):
        inner = ExceptionGroup("inner", [KeyError("k")])
        info = errors.describe(ExceptionGroup("outer", [ValueError("v"), inner]))
        self.assertEqual([part["type"] for part in info["exceptions"]], ["ValueError", "ExceptionGroup"])
        self.assertEqual(info["exceptions"][1]["exceptions"][0]["message"], "'k'")
        many = errors.describe(ExceptionGroup("many", [ValueError(i) for i in range(5000)]))
        self.assertEqual(len(many["exceptions"]), errors.EXCEPTIONS_MAX - 1)

    def test_broken_exceptions_are_told(self):
        def exits(_):
            raise SystemExit

        for broken in (fail, exits, lambda _: 5):
            class Broken(Exception):
                __str__ = broken
                __cause__ = __context__ = __notes__ = __traceback__ = __suppress_context__ = property(fail)

            info = describe(lambda: (_ for _ in ()).throw(Broken()))
            self.assertEqual((info["message"], info["notes"]), ("<str() of the exception failed>", []))
            self.assertTrue(info["traceback"])

    def test_errors_of_erlang_tell_class_reason_and_stack(self):
        error = Error("error: badarg")
        self.assertNotIn("erlang", errors.describe(error))  # Python code has made it
        error.class_, error.reason, error.stack = Atom("error"), Atom("badarg"), [("m", "f", 1, [])]
        self.assertEqual(errors.describe(error)["erlang"], ("error", "badarg", [("m", "f", 1, [])]))
        outer = ValueError("x")
        outer.__cause__ = error
        info = errors.describe(outer)
        self.assertNotIn("erlang", info)
        self.assertIn("erlang", info["cause"])

    def test_text_that_is_no_UTF8_is_escaped(self):
        self.assertEqual(errors.describe(ValueError("a\ud800\0"))["message"], "a\\ud800\0")


if __name__ == "__main__":
    unittest.main()
