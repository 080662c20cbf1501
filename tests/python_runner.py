# SPDX-License-Identifier: Apache-2.0
"""Runs unittest files in one Python, and reports each test to a file as it happens.

The same lines as ct_runner.erl writes, for the same reader (run_tests), and for the
same reason: what was known before a crash has to be on disk by then.
Started as: python python_runner.py EVENTS DIRECTORY [MODULE[:TEST] ...]
"""

import os
import sys
import traceback
import unittest


class Reporter(unittest.TestResult):
    def __init__(self, path):
        super().__init__()
        self.file = open(path, "a", encoding="utf-8", errors="backslashreplace")
        self.ended = False

    def report(self, kind, test, text=""):
        suite, _, case = test.id().rpartition(".")
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
        self.file.write("%s\t%s\t%s\t%s\n" % (kind, suite or "-", case, text))
        self.file.flush()

    def startTest(self, test):
        super().startTest(test)
        self.ended = False
        self.report("start", test)

    def stopTest(self, test):
        super().stopTest(test)
        # A test all of whose subtests failed or were skipped ends without a word.
        if not self.ended:
            self.report("pass", test)

    def end(self, kind, test, text=""):
        self.ended = True
        self.report(kind, test, text)

    def addSuccess(self, test):
        self.end("pass", test)

    def addFailure(self, test, err):
        self.end("fail", test, "".join(traceback.format_exception(*err)))

    def addError(self, test, err):
        # Also the errors of setUpClass and of imports, which no startTest announces.
        self.end("fail", test, "".join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        self.end("skip", test, reason)

    def addExpectedFailure(self, test, err):
        self.end("pass", test)

    def addUnexpectedSuccess(self, test):
        self.end("fail", test, "was expected to fail and did not")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.end("fail", subtest, "".join(traceback.format_exception(*err)))


def main():
    events, directory = sys.argv[1:3]
    names = sys.argv[3:]
    sys.path.insert(0, directory)
    loader = unittest.defaultTestLoader
    if names:
        tests = loader.loadTestsFromNames(name.replace(":", ".") for name in names)
    else:
        tests = loader.discover(directory, pattern="test_*.py")
    reporter = Reporter(events)
    tests.run(reporter)
    reporter.file.write("done\t-\t-\t\n")
    reporter.file.close()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
