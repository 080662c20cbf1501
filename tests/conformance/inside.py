# SPDX-License-Identifier: Apache-2.0
"""Runs one module of CPython's test_asyncio inside the Erlang VM, with our event loop.

Called by `run`, by py:call: so the tests run on a thread that serves a request.
"""

import asyncio
import fnmatch
import importlib.util
import os
import sys
import unittest
import warnings


def run(module, directory, runner, events, names, left_out):
    """Runs test.test_asyncio.<module>, or these tests of it; each result goes to the file `events`.

    `left_out` are patterns of tests that are not run, as they would not end.  `directory` is one
    that holds a package `test`, for a Python that has none of its own, or "".
    """
    os.chdir(os.path.dirname(events))
    add_tests(directory)
    use_our_loop()
    if module != "test_unix_events":  # which is about them
        do_without_watchers()
    reporter = load_reporter(runner)(events)
    suite = importlib.import_module("test.test_asyncio." + module)
    # unittest sets a filter that shows all of them; those of the tests' own making are many.
    warnings.simplefilter("ignore")
    loader, kept = unittest.defaultTestLoader, unittest.TestSuite()
    tests = loader.loadTestsFromNames(names, suite) if names else loader.loadTestsFromModule(suite)
    for test in flatten(tests):
        test_name = ".".join(test.id().split(".")[2:])
        if any(fnmatch.fnmatchcase(test_name, pattern) for pattern in left_out):
            reporter.report("skip", test, "would not end")
        else:
            kept.addTest(test)
    kept.run(reporter)
    reporter.file.write("done\t-\t-\t\n")
    reporter.file.close()


def flatten(tests):
    """The tests of a suite of suites."""
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def add_tests(directory):
    """Has `import test.test_asyncio` look there too."""
    if directory:
        sys.path.append(directory)
        package = importlib.import_module("test")
        path = os.path.join(directory, "test")
        if path not in package.__path__:
            package.__path__.append(path)


def use_our_loop():
    """Puts our loop where the stock one is, also for tests that ask for that by its name."""
    import erlang

    erlang.install()
    for name in ("SelectorEventLoop", "EventLoop"):
        for module in (asyncio, asyncio.unix_events):
            if hasattr(module, name):
                setattr(module, name, erlang.ErlangEventLoop)
    # What modules of tests set at their end, and sub-tests at their beginning.
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = erlang.ErlangEventLoop


def do_without_watchers():
    """Our loop needs no child watcher, but some tests attach one, which asks the loop for SIGCHLD."""
    for name in ("SafeChildWatcher", "FastChildWatcher"):
        if hasattr(asyncio.unix_events, name):
            getattr(asyncio.unix_events, name).attach_loop = lambda self, loop: None


def load_reporter(path):
    """The class of tests/python_runner.py."""
    spec = importlib.util.spec_from_file_location("python_runner", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Reporter
