# SPDX-License-Identifier: Apache-2.0
"""Runs one module of CPython's test_asyncio inside the Erlang VM, with our event loop.

Called by `run`, by py:call: so the tests run on a thread that serves a request.  A test that takes
too long ends the VM, with what each thread was doing; `run` goes on with the tests after it in a
new VM.
"""

import asyncio
import fnmatch
import importlib.util
import json
import os
import signal
import sys
import threading
import traceback
import unittest
import warnings
from time import monotonic


def run(path):
    """Runs what the file of this name, a plan, says; each result goes to a file as it happens.

    A plan is a map in JSON of:
      module     the tests are those of test.test_asyncio.<module>
      names      or these of them, as CLASS.TEST, if there are any
      left_out   patterns, for MODULE.CLASS.TEST, of tests that would not end; reported as skipped
      done       names, as MODULE.CLASS.TEST, of tests that an earlier VM has run; not reported
      directory  one that holds a package `test`, for a Python that has none of its own, or ""
      runner     tests/python_runner.py
      events     the file for the results
      limit      how many seconds a test may take
    """
    with open(path, encoding="utf-8") as file:
        plan = json.load(file)
    os.chdir(os.path.dirname(plan["events"]))
    add_tests(plan["directory"])
    use_our_loop()
    use_ordinary_threads()
    have_sighup_at_its_default()
    if plan["module"] != "test_unix_events":  # which is about them
        do_without_watchers()
    reporter = load_reporter(plan["runner"])(plan["events"])
    with Watchdog(reporter, plan["limit"]):
        run_tests(plan, reporter)
    reporter.file.write("done\t-\t-\t\n")
    reporter.file.close()


def run_tests(plan, reporter):
    module = plan["module"]
    suite = importlib.import_module("test.test_asyncio." + module)
    # unittest sets a filter that shows all of them; those of the tests' own making are many.
    warnings.simplefilter("ignore")
    loader = unittest.defaultTestLoader
    tests = loader.loadTestsFromNames(plan["names"], suite) if plan["names"] else loader.loadTestsFromModule(suite)
    kept(tests, plan, reporter).run(reporter)


def kept(tests, plan, reporter):
    """Those of the tests that are to be run."""
    suite, done = unittest.TestSuite(), set(plan["done"])
    for test in flatten(tests):
        name = ".".join(test.id().split(".")[2:])
        if name in done:
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in plan["left_out"]):
            reporter.report("skip", test, "would not end")
        else:
            suite.addTest(test)
    return suite


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


def load_reporter(path):
    """The class of tests/python_runner.py."""
    spec = importlib.util.spec_from_file_location("python_runner", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Reporter


class Watchdog:
    """Ends the process, with the status 1, when a test takes longer than the limit.

    It says what each thread was doing.  (The module faulthandler does not load in a sub-interpreter.)
    """

    def __init__(self, reporter, limit):
        self.reporter, self.limit = reporter, limit
        self.began = monotonic()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="watchdog")

    def __enter__(self):
        start_test = self.reporter.startTest

        def start_watched(test):
            self.began = monotonic()
            start_test(test)

        self.reporter.startTest = start_watched
        self.thread.start()

    def __exit__(self, *_error):
        self.over.set()
        self.thread.join()

    def watch(self):
        while not self.over.wait(0.25):
            if monotonic() - self.began > self.limit:
                os.write(2, self.stacks().encode(errors="replace"))
                os._exit(1)

    def stacks(self):
        stacks = ["\na test took longer than %g seconds\n" % self.limit]
        for thread, frame in sys._current_frames().items():
            if thread != threading.get_ident():
                stacks += ["thread %d:\n" % thread, *traceback.format_stack(frame)]
        return "".join(stacks)


# --- what differs from a Python with a main thread of its own

def use_our_loop():
    """Puts our loop and policy where the stock ones are, also for tests that ask for these by name."""
    import erlang

    erlang.install()
    names = {"SelectorEventLoop": erlang.ErlangEventLoop, "EventLoop": erlang.ErlangEventLoop,
             "DefaultEventLoopPolicy": erlang.EventLoopPolicy, "_DefaultEventLoopPolicy": erlang.EventLoopPolicy}
    for name, ours in names.items():
        for module in (asyncio, asyncio.unix_events):
            if name in vars(module):
                setattr(module, name, ours)


def do_without_watchers():
    """Our loop needs no child watcher, but some tests attach one, which asks the loop for SIGCHLD."""
    for name in ("SafeChildWatcher", "FastChildWatcher"):
        if hasattr(asyncio.unix_events, name):
            getattr(asyncio.unix_events, name).attach_loop = lambda self, loop: None


def use_ordinary_threads():
    """A sub-interpreter may have no daemon threads; these tests wait for theirs, so that others do as well."""
    try:
        threading.Thread(daemon=True)
        return
    except RuntimeError:
        init = threading.Thread.__init__

    def init_ordinary(self, *args, daemon=None, **kwargs):
        init(self, *args, daemon=False, **kwargs)

    threading.Thread.__init__ = init_ordinary
    threading.Thread.daemon = property(lambda self: False, lambda self, value: None)


def have_sighup_at_its_default():
    """Tests that send it to a child set that before, by signal.signal(), which wants Python's main thread.

    `run` has seen to it that this is so.
    """
    stock = signal.signal

    def set_handler(number, handler):
        if (number, handler) == (signal.SIGHUP, signal.SIG_DFL):
            return signal.SIG_DFL
        return stock(number, handler)

    signal.signal = set_handler
