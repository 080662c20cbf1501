# SPDX-License-Identifier: Apache-2.0
"""What erlang._compat decides without a VM: which imports code begins with, which module
turned the GIL on, and, in real sub-interpreters of this Python, what a module that
refuses does.  `_erlang` is replaced by what the tests need of it."""

import importlib.util
import subprocess
import sys
import types
import unittest

import under_test

FILE = under_test.PACKAGE / "_compat.py"


def load(stub):
    return under_test.load_with(stub, "_compat")


class Imports(unittest.TestCase):
    def check(self, source, *expected):
        imports_of = load(types.ModuleType("_erlang")).imports_of
        self.assertEqual(imports_of(source), expected)

    def test_each_form_of_import_at_the_start_counts(self):
        self.check("import a.b.c as d, e", ("a.b.c", ()), ("e", ()))
        self.check("from a import b as c, d", ("a", ("b", "d")))
        self.check("from a import *\nimport b", ("a", ("*",)), ("b", ()))
        self.check("from __future__ import annotations\nimport a",
                   ("__future__", ("annotations",)), ("a", ()))

    def test_comments_and_blank_lines_may_stand_between(self):
        self.check("\n# c (\n\nimport a  # (\n   \n  # d\nimport b\n", ("a", ()), ("b", ()))
        self.check("\r\nimport a\r\nimport b\r\nx = 1", ("a", ()), ("b", ()))

    def test_an_import_of_several_lines_is_one(self):
        self.check("from a import (b,  # (\n    c)\nimport d", ("a", ("b", "c")), ("d", ()))
        self.check("import a, \\\n b\nimport c", ("a", ()), ("b", ()), ("c", ()))

    def test_what_comes_after_anything_else_does_not_count(self):
        self.check("import os\nos.environ['A'] = '1'\nimport numpy", ("os", ()))
        self.check("import os; os.chdir('/'); import numpy", ("os", ()))
        self.check("x = 1\nimport numpy")
        self.check("'''\nimport numpy\n'''")
        self.check("import a; x = '''\nimport b\n'''")

    def test_imports_within_another_statement_do_not_count(self):
        self.check("try:\n    import numpy\nexcept ImportError:\n    pass")
        self.check("try: import numpy\nexcept ImportError: pass")
        self.check("def f():\n    import numpy")
        self.check("if x:\n    import numpy")

    def test_relative_imports_do_not_count(self):
        self.check("from . import a\nimport b")

    def test_code_without_imports_has_none(self):
        for source in ("", "1 + 1", "imported = 1", "from_ = 1", "\n\n"):
            self.check(source)


class GilWatch(unittest.TestCase):
    """The interpreter's word on its GIL is replaced: no Python has all these cases."""

    def setUp(self):
        self.told = []
        stub = types.ModuleType("_erlang")
        stub.gil_enabled = self.told.append
        self.compat = load(stub)
        self.is_on = False
        self.compat.sys = types.SimpleNamespace(_is_gil_enabled=lambda: self.is_on)
        self.watch = self.compat._GilWatch()

    def create(self, name, step=lambda: None):
        return self.watch.create(types.SimpleNamespace(name=name), step)

    def turn_on(self):
        self.is_on = True

    def test_the_module_is_named_once(self):
        self.create("a")
        self.create("b", self.turn_on)
        self.create("c")
        self.assertEqual(self.told, ["b"])

    def test_a_module_loaded_within_another_one_is_not_to_blame(self):
        def outer():
            self.turn_on()  # for the time being, as CPython does
            self.create("inner")
            self.is_on = False
        self.create("outer", outer)
        self.assertEqual(self.told, [])

    def test_it_is_told_when_no_thread_loads_another_one(self):
        from threading import Thread

        def outer():
            thread = Thread(target=self.create, args=("other", self.turn_on))
            thread.start()
            thread.join()
            self.assertEqual(self.told, [])
        self.create("outer", outer)
        self.assertEqual(self.told, ["other", "outer"])

    def test_a_module_that_fails_to_load_is_watched_as_well(self):
        def fail():
            self.turn_on()
            raise ImportError("half way")
        with self.assertRaises(ImportError):
            self.create("a", fail)
        self.assertEqual(self.told, ["a"])


class Look(unittest.TestCase):
    def setUp(self):
        self.look = load(types.ModuleType("_erlang")).look

    def test_a_module_that_loads_from_that_file_passes(self):
        self.assertIsNone(self.look("json", importlib.util.find_spec("json").origin))

    def test_a_module_from_another_file_does_not(self):
        self.assertIn("not /elsewhere/json.so", self.look("json", "/elsewhere/json.so"))

    def test_a_failure_is_one_line(self):
        self.assertEqual(self.look("no_such_module", "x"),
                         "ModuleNotFoundError: No module named 'no_such_module'")


IN_SUBINTERPRETER = """
import importlib.util, os, sys, types
stub = sys.modules["_erlang"] = types.ModuleType("_erlang")
looks, refused = [], []
stub.look_first = lambda name, path: looks.append((name, path))
stub.refused = refused.append
spec = importlib.util.spec_from_file_location("compat", FILE)
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat.install(False)
import array, _json, _socket
assert (looks, refused) == ([], []), (looks, refused)
for _ in range(2):
    try:
        import faulthandler
        assert False, "it loads"
    except ImportError as error:
        assert "py:register_pool(main, Module)" in str(error), error
assert looks == [("faulthandler", "built-in")], looks  # and is not tried again
assert refused == ["faulthandler"] * 2, refused
stub.look_first = lambda name, path: "ValueError: no"
try:
    compat._create(types.SimpleNamespace(name="other", origin="/o.so"), lambda: 1 / 0)
    assert False, "it is tried"
except ImportError as error:
    assert "cannot: ValueError: no" in str(error), error
os.write(1, b"good")
"""
PROGRAM = """
import _interpreters, sys
interpreter = _interpreters.create("isolated")
failed = _interpreters.exec(interpreter, sys.argv[1])
if failed:
    print(failed)
_interpreters.destroy(interpreter)
"""


@unittest.skipIf(sys.version_info < (3, 13), "sub-interpreters have no module _interpreters before 3.13")
@unittest.skipIf("t" in sys.abiflags, "there is no mode subinterp without a GIL")
class Subinterpreter(unittest.TestCase):
    def test_what_refuses_is_told_and_tried_once(self):
        code = "FILE = %r" % str(FILE) + IN_SUBINTERPRETER
        done = subprocess.run([sys.executable, "-c", PROGRAM, code], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual((done.returncode, done.stdout), (0, "good"))


if __name__ == "__main__":
    unittest.main()
