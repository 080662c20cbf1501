# SPDX-License-Identifier: Apache-2.0
"""What erlang._loop adds to asyncio's loop: the end of a request, wakeups, refused signals."""

import asyncio
import contextlib
import os
import select
import threading
import time
import unittest
import warnings

from under_test import Cancelled, load, load_with, stub

PATIENCE = 60  # seconds: for a machine that stands still; nothing is shown by it


class Request:
    """What C knows of the request of a thread."""

    def __init__(self):
        self.fd, self.writable = os.pipe()
        self.is_cancelled = False
        self.quiet = []

    def cancel(self):
        self.is_cancelled = True
        os.write(self.writable, b"1")

    def check(self):
        if self.is_cancelled:
            raise Cancelled("the request was cancelled")

    def set_quiet(self, quiet):
        before = bool(self.quiet and self.quiet[-1])
        self.quiet.append(quiet)
        return before

    def close(self):
        os.close(self.fd)
        os.close(self.writable)


class LoopTest(unittest.TestCase):
    def setUp(self):
        self.request = Request()
        self.addCleanup(self.request.close)
        self.serving = threading.get_ident()  # the thread that serves the request
        self.loops = load("_loop", wakeup_fd=self.wakeup_fd, check_cancelled=self.request.check,
                          set_quiet=self.request.set_quiet, Mailbox=None, async_start=None, self=None)

    def wakeup_fd(self):
        return self.request.fd if threading.get_ident() == self.serving else None

    def new_loop(self):
        loop = self.loops.new_event_loop()
        self.addCleanup(loop.close)
        return loop


class Run(LoopTest):
    def test_run_returns_what_the_coroutine_returns(self):
        async def main():
            await asyncio.sleep(0)
            return type(asyncio.get_running_loop()), asyncio.get_running_loop().get_debug()

        self.assertEqual(self.loops.run(main(), debug=True), (self.loops.ErlangEventLoop, True))
        self.assertEqual(self.request.quiet[-1], False)

    def test_run_does_what_it_does_in_older_pythons(self):
        cleaned = []

        async def work():
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                cleaned.append(1)

        async def main():
            self.task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            return 1

        self.assertEqual(self.loops._run(main(), None), 1)
        self.assertEqual(cleaned, [1])
        with self.assertRaises(ValueError):
            self.loops._run(1, None)

    def test_run_refuses_to_be_nested(self):
        async def inner():
            pass

        async def main():
            coro = inner()
            with contextlib.closing(coro), self.assertRaisesRegex(RuntimeError, "erlang.run"):
                self.loops.run(coro)

        self.loops.run(main())

    def test_a_thread_that_serves_no_request_runs_a_loop(self):
        self.request.cancel()
        results = []

        async def main():
            await asyncio.sleep(0.001)
            return 1

        thread = threading.Thread(target=lambda: results.append(self.loops.run(main())))
        thread.start()
        thread.join()
        self.assertEqual(results, [1])


class Cancel(LoopTest):
    def test_a_loop_that_sleeps_ends_with_its_request(self):
        async def main():
            asyncio.get_running_loop().call_later(0.01, self.request.cancel)
            await asyncio.sleep(10 * PATIENCE)

        start = time.monotonic()
        with self.assertRaises(Cancelled):
            self.loops.run(main())
        self.assertLess(time.monotonic() - start, PATIENCE)

    def test_a_task_that_catches_everything_has_its_grace(self):
        async def main():
            self.request.cancel()
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(PATIENCE)

        self.loops.GRACE = 0.05
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the task is pending at the end
            with self.assertRaises(Cancelled):
                self.loops.run(main())

    def test_cleanup_may_wait(self):
        self.loops.GRACE = PATIENCE
        cleaned = []

        async def work():
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                await asyncio.sleep(0.01)
                cleaned.append(1)

        async def main():
            self.task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            self.request.cancel()
            await self.task

        with self.assertRaises(Cancelled):
            self.loops.run(main())
        self.assertEqual(cleaned, [1])

    def test_a_loop_outlives_a_request_that_was_cancelled(self):
        loop = self.new_loop()

        async def main():
            self.request.cancel()
            await asyncio.sleep(PATIENCE)

        with self.assertRaises(Cancelled):
            loop.run_until_complete(main())
        self.request.is_cancelled = False
        os.read(self.request.fd, 1)
        self.assertEqual(loop.run_until_complete(asyncio.sleep(0.001, 2)), 2)
        self.assertIsNone(loop._grace_ends)

    def test_the_descriptor_is_not_watched_between_runs(self):
        loop = self.new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        self.assertNotIn(self.request.fd, loop._selector.get_map())

    def test_a_cancelled_request_does_not_wait_for_threads(self):
        loop = self.new_loop()
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        async def main():
            loop.run_in_executor(None, go_on.wait)
            self.request.cancel()
            await asyncio.sleep(PATIENCE)

        with self.assertRaises(Cancelled):
            loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        self.assertFalse(go_on.is_set())


class Wakeups(LoopTest):
    def test_one_byte_wakes_for_many_calls(self):
        loop = self.new_loop()
        called = []
        for n in range(100):
            loop.call_soon_threadsafe(called.append, n)
        self.assertEqual(loop._ssock.recv(1000), b"\0")
        loop._csock.send(b"\0")  # what has been taken away
        loop.run_until_complete(asyncio.sleep(0))
        self.assertEqual(called, list(range(100)))
        loop.call_soon_threadsafe(called.append, 100)
        self.assertEqual(loop._ssock.recv(1000), b"\0")

    def test_a_finalizer_may_wake_in_the_middle_of_a_wakeup(self):
        loop = self.new_loop()
        with loop._wake_lock:
            loop.call_soon_threadsafe(lambda: None)
        self.assertTrue(select.select([loop._ssock], [], [], PATIENCE)[0])

    def test_a_closed_loop_is_not_woken(self):
        loop = self.loops.new_event_loop()
        loop.close()
        with self.assertRaises(RuntimeError):
            loop.call_soon_threadsafe(lambda: None)
        loop._write_to_self()


class Signals(LoopTest):
    def test_handlers_are_refused_with_a_hint(self):
        loop = self.new_loop()
        with self.assertRaisesRegex(NotImplementedError, "os:set_signal/2.*erl_signal_server"):
            loop.add_signal_handler(2, print)
        self.assertIs(loop.remove_signal_handler(2), False)

    def test_wrong_arguments_are_told_as_always(self):
        loop = self.new_loop()

        async def handler():
            pass

        for sig, callback, error in ((2, handler, TypeError), ("2", print, TypeError), (1000, print, ValueError)):
            with self.subTest(sig=sig), self.assertRaises(error):
                loop.add_signal_handler(sig, callback)
        with self.assertRaises(ValueError):
            loop.remove_signal_handler(1000)


class Sleep(LoopTest):
    def test_it_blocks_where_no_loop_runs(self):
        start = time.monotonic()
        self.assertEqual(self.loops.sleep(0.0115, "x"), "x")
        self.assertGreaterEqual(time.monotonic() - start, 0.0115)
        self.assertIsNone(self.loops.sleep(-1))

    def test_it_ends_with_the_request(self):
        timer = threading.Timer(0.01, self.request.cancel)
        timer.start()
        with self.assertRaises(Cancelled):
            self.loops.sleep(float("inf"))
        timer.join()

    def test_it_is_awaited_in_a_loop(self):
        async def main():
            return await self.loops.sleep(0.001, "y")

        self.assertEqual(self.loops.run(main()), "y")

    def test_a_thread_without_a_request_sleeps_too(self):
        thread = threading.Thread(target=self.loops.sleep, args=(0.001,))
        thread.start()
        thread.join()

    def test_a_delay_is_a_number(self):
        with self.assertRaises(ValueError):
            self.loops.sleep(float("nan"))


class SpawnTask(LoopTest):
    def test_a_task_runs_on_the_running_loop(self):
        async def work():
            return 1

        async def main():
            task = self.loops.spawn_task(work(), name="n")
            self.assertIn(task, self.loops._tasks)
            return task.get_name(), await task

        self.assertEqual(self.loops.run(main()), ("n", 1))
        self.assertEqual(self.loops._tasks, set())

    def test_only_coroutines_are_taken(self):
        with self.assertRaises(TypeError):
            self.loops.spawn_task(1)


class Policy(unittest.TestCase):
    def setUp(self):
        self.fd = None
        module = stub(wakeup_fd=lambda: self.fd, check_cancelled=None, set_quiet=None, Mailbox=None,
                      async_start=None, self=None)
        self.policies = load_with(module, "_policy")

    def test_its_loops_are_ours(self):
        policy = self.policies.get_event_loop_policy()
        self.assertIsInstance(policy, self.policies.EventLoopPolicy)
        loop = policy.new_event_loop()
        self.assertIsInstance(loop, self.policies.ErlangEventLoop)
        loop.close()

    def test_install_changes_what_asyncio_makes(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.policies.install()
        try:
            loop = asyncio.new_event_loop()
            self.assertIsInstance(loop, self.policies.ErlangEventLoop)
            loop.close()
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                asyncio.set_event_loop_policy(None)


if __name__ == "__main__":
    unittest.main()
