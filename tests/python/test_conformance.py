# SPDX-License-Identifier: Apache-2.0
"""The tool that runs CPython's tests of asyncio: what it makes of tests that fail, hang, crash or pass.

The VM is a Python that runs inside.py as the VM would, but with the stock loop.
"""

import argparse
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import pathlib
import sys
import tempfile
import textwrap
import unittest

TOOL = pathlib.Path(__file__).resolve().parent.parent / "conformance" / "run"

VM = """\
#!%s
import json, sys
here, plan = sys.argv[-2:]
with open(plan) as file:
    sys.path[:0] = [here, json.load(file)["directory"]]
import inside
inside.use_our_loop = lambda: None
inside.run(plan)
"""

TESTS = """\
import os, threading, unittest

def once(name):
    "Only at the first call: is it?"
    try:
        os.mkdir(os.path.join(os.path.dirname(__file__), name))
        return True
    except FileExistsError:
        return False

class Tests(unittest.TestCase):
    def test_a(self):
        pass
    def test_b(self):
        {}
    def test_c(self):
        pass
"""


def load(path):
    loader = importlib.machinery.SourceFileLoader("conformance_run", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    was = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = was
    return module


class Conformance(unittest.TestCase):
    def setUp(self):
        self.tool = load(TOOL)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.modules = self.directory / "test" / "test_asyncio"
        self.modules.mkdir(parents=True)
        for package in (self.modules, self.modules.parent):
            (package / "__init__.py").write_text("")
        self.vm(VM % sys.executable)
        self.options = argparse.Namespace(build=str(self.directory), modules=[], jobs=1, limit=5.0,
                                          erl=str(self.directory / "erl"))

    def vm(self, program):
        (self.directory / "erl").write_text(program)
        (self.directory / "erl").chmod(0o755)

    def check(self, body, *entries):
        """What main() would get and print of a module whose second test does this."""
        (self.modules / "test_sample.py").write_text(TESTS.format(textwrap.indent(body, " " * 8).strip()))
        expected = [self.tool.Expected("", [], *entry.split(" -- ")) for entry in entries]
        tests = {"directory": str(self.directory), "modules": str(self.modules)}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            results = self.tool.run_all(self.options, "cp300-subinterp", tests, expected, str(self.directory))
            count = self.tool.report("cp300-subinterp", results, expected, complete=True)
        return (count["passed"], count["failed"], count["skipped"]), printed.getvalue()

    def test_what_passes_is_counted(self):
        count, printed = self.check("pass")
        self.assertEqual(count, (3, 0, 0))
        self.assertIn("cp300-subinterp: 3 passed, 0 failed as expected, 0 failed, 0 passed though named, 0 skipped",
                      printed)

    def test_a_failure_that_nothing_names_is_told(self):
        count, printed = self.check("self.fail('it is so')")
        self.assertEqual(count, (2, 1, 0))
        self.assertIn("Failed: test_sample.Tests.test_b", printed)
        self.assertIn("it is so", printed)

    def test_a_failure_that_is_named_counts_as_skipped(self):
        count, printed = self.check("self.fail('it is so')", "test_sample.*.test_b -- it is known")
        self.assertEqual(count, (2, 0, 1))
        self.assertNotIn("it is so", printed)

    def test_a_test_that_passes_although_it_is_named_fails(self):
        count, printed = self.check("pass", "test_sample.Tests.test_b -- it is known")
        self.assertEqual(count, (2, 1, 0))
        self.assertIn("passed, though expected.txt names it: test_sample.Tests.test_b", printed)

    def test_each_test_of_a_pattern_has_to_fail(self):
        count, printed = self.check("self.fail()", "test_sample.Tests.* -- it is known")
        self.assertEqual(count, (0, 2, 1))
        self.assertIn("names it: test_sample.Tests.test_a", printed)

    def test_an_entry_may_allow_a_test_to_pass(self):
        for body in ("pass", "self.fail()"):
            with self.subTest(body):
                self.assertEqual(self.check(body, "*.test_b -- may pass: it depends")[0][1], 0)

    def test_an_entry_that_names_no_test_is_told(self):
        count, printed = self.check("pass", "test_sample.Tests.test_x -- it is known")
        self.assertEqual(count, (3, 0, 0))
        self.assertIn("names no test of this Python: test_sample.Tests.test_x", printed)

    def test_what_is_not_to_be_run_is_skipped(self):
        count, _ = self.check("threading.Event().wait()", "*.test_b -- not run: it would not end")
        self.assertEqual(count, (2, 0, 1))

    def test_a_failure_that_does_not_come_again_is_told(self):
        count, printed = self.check("self.assertFalse(once('b'), 'at first')")
        self.assertEqual(count, (3, 0, 0))
        self.assertIn("test_sample.Tests.test_b\n    " + self.tool.FAILED_ONCE, printed)
        self.assertIn("at first", printed)

    def test_this_goes_for_sub_tests_too(self):
        count, printed = self.check("with self.subTest(number=1):\n    self.assertFalse(once('b'))")
        self.assertEqual(count, (3, 0, 0))
        self.assertIn("test_sample.Tests.test_b\n    " + self.tool.FAILED_ONCE, printed)

    def test_a_test_that_hangs_is_named_with_its_stack_and_the_others_are_run(self):
        count, printed = self.check("threading.Event().wait()")
        self.assertEqual(count, (2, 1, 0))
        self.assertIn("Ended the VM: test_sample.Tests.test_b", printed)
        self.assertIn("in test_b", printed)

    def test_a_test_that_crashes_is_named_and_the_others_are_run(self):
        count, printed = self.check("os._exit(11)")
        self.assertEqual(count, (2, 1, 0))
        self.assertIn("Ended the VM: test_sample.Tests.test_b", printed)
        self.assertIn("status 11", printed)

    def test_no_entry_excuses_the_end_of_the_vm(self):
        count, _ = self.check("os._exit(11)", "test_sample.Tests.test_b -- it is known")
        self.assertEqual(count, (2, 1, 0))

    def test_a_test_that_ends_the_vm_when_it_is_run_again_is_a_failure(self):
        count, printed = self.check("self.assertFalse(once('b'), 'at first'); os._exit(11)")
        self.assertEqual(count, (2, 1, 0))
        self.assertIn("status 11", printed)

    def test_the_rest_of_a_module_is_given_up_after_some_crashes(self):
        self.tool.MAX_VMS = 1
        count, printed = self.check("os._exit(11)")
        self.assertEqual(count, (1, 2, 0))
        self.assertIn("its other tests were not run", printed)

    def test_a_vm_that_does_not_start_is_a_failure(self):
        self.vm("#!/bin/sh\nexit 3\n")
        count, printed = self.check("pass")
        self.assertEqual(count, (0, 1, 0))
        self.assertIn("Ended the VM: test_sample.-", printed)

    def test_a_vm_that_crashes_after_the_last_test_is_a_failure(self):
        self.vm(VM % sys.executable + "sys.exit(3)\n")
        count, printed = self.check("pass")
        self.assertEqual(count, (3, 1, 0))
        self.assertIn("status 3", printed)

    def test_a_vm_of_which_nothing_comes_is_killed(self):
        self.tool.SLACK, self.options.limit = 0, 1.0
        self.vm("#!/bin/sh\nexec sleep 1000\n")
        count, printed = self.check("pass")
        self.assertEqual(count, (0, 1, 0))
        self.assertIn("was killed", printed)

    def test_an_entry_is_for_versions_and_modes(self):
        for head, names in [("", ["3.9", "3.14"]), ("3.13", ["3.13"]), ("-3.13", ["3.9", "3.13"]),
                            ("3.12-", ["3.12", "3.14"]), ("3.12-3.13", ["3.12", "3.13"])]:
            with self.subTest(head):
                entry = self.tool.Expected(head, [], "*", "known")
                every = ["3.9", "3.11", "3.12", "3.13", "3.14"]
                found = [version for version in every if self.tool.applies(entry, version, "cp300-subinterp")]
                self.assertLessEqual(set(names), set(found))
                self.assertEqual((found[0], found[-1]), (names[0], names[-1]))
        entry = self.tool.Expected("", ["subinterp", "free_threaded"], "*", "known")
        self.assertTrue(self.tool.applies(entry, "3.13", "cp313-subinterp"))
        self.assertFalse(self.tool.applies(entry, "3.13", "cp313-multi_executor"))

    def test_every_line_of_what_is_expected_can_be_read(self):
        self.assertTrue(list(self.tool.read_expected()))


if __name__ == "__main__":
    unittest.main()
