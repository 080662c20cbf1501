# SPDX-License-Identifier: Apache-2.0
"""What erlang._async makes of the mailbox of C: futures of the loop, and no descriptor that stays."""

import asyncio
import contextlib
import gc
import os
import threading
import unittest
import weakref

from under_test import Error, load


class Call:
    """As C's AsyncCall."""

    def __init__(self, mailbox, name, args):
        self.mailbox, self.name, self.args = weakref.ref(mailbox), name, args
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True

    def answer(self, ok, value):
        """From any thread, as by Erlang."""
        mailbox = self.mailbox()
        if mailbox is not None:
            mailbox.push((self, ok, value))


class Mailbox:
    """As C's."""

    open = []

    def __init__(self):
        self.readable, self.writable = os.pipe()
        self.lock = threading.Lock()
        self.items = []
        self.is_closed = False
        Mailbox.open.append(self.readable)

    def fileno(self):
        return self.readable

    def push(self, item):
        with self.lock:
            self.items.append(item)
            if len(self.items) == 1:
                os.write(self.writable, b"1")

    def drain(self):
        with self.lock:
            items, self.items = self.items, []
            if items:
                os.read(self.readable, 1)
        return items

    def close(self):
        if not self.is_closed:
            self.is_closed = True
            os.close(self.readable)
            os.close(self.writable)
            Mailbox.open.remove(self.readable)

    __del__ = close


class AsyncCall(unittest.TestCase):
    def setUp(self):
        self.calls = []
        self.on_start = lambda call: None
        self.requests = set()  # the threads that serve one
        module = load("_async", Mailbox=Mailbox, async_start=self.start, self=self.caller,
                      wakeup_fd=None, set_quiet=None, check_cancelled=None)
        self.async_call, self.loops, self.nap = module.async_call, module._loops, module._NAP
        self.assertEqual(Mailbox.open, [])

    def start(self, name, args, mailbox):
        call = Call(mailbox, name, args)
        self.calls.append(call)
        self.on_start(call)
        return call

    def caller(self):
        if threading.get_ident() not in self.requests:
            raise RuntimeError("there is no request")

    def tearDown(self):
        self.calls.clear()
        gc.collect()
        self.assertEqual(Mailbox.open, [])

    def run_loop(self, coroutine):
        return asyncio.run(asyncio.wait_for(coroutine, 60))

    def test_the_answer_may_come_at_once_or_from_another_thread(self):
        def at_once(call):
            call.answer(True, (call.name, call.args))

        def later(call):
            threading.Thread(target=at_once, args=(call,)).start()

        async def main():
            for self.on_start in (at_once, later):
                self.assertEqual(await self.async_call("f", 1, [2]), ("f", (1, [2])))
            self.assertEqual(await asyncio.gather(*[self.async_call(i) for i in range(100)]),
                             [(i, ()) for i in range(100)])
            self.assertEqual(len(Mailbox.open), 1)

        self.run_loop(main())
        self.assertFalse(any(call.is_cancelled for call in self.calls))

    def test_an_exception_is_raised_where_it_was_called(self):
        async def main():
            for error in (Error("x"), ValueError("y")):
                self.on_start = lambda call: call.answer(False, error)
                with self.assertRaises(type(error)) as raised:
                    await self.async_call("f")
                self.assertIs(raised.exception, error)

        self.run_loop(main())

    def test_a_start_that_fails_leaves_nothing(self):
        def fail(call):
            raise TypeError

        async def main():
            self.on_start = fail
            with self.assertRaises(TypeError):
                await self.async_call("f")

        self.run_loop(main())

    def test_without_a_loop_it_is_an_error(self):
        with self.assertRaises(RuntimeError):
            self.async_call("f").send(None)

    def test_a_cancelled_task_cancels_its_call(self):
        async def main():
            task = asyncio.ensure_future(self.async_call("f"))
            other = asyncio.ensure_future(self.async_call("g"))
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.calls[0].answer(True, 1)  # too late
            self.calls[1].answer(True, 2)
            self.assertEqual(await other, 2)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(self.async_call("h"), 0.001)

        self.run_loop(main())
        self.assertEqual([call.is_cancelled for call in self.calls], [True, False, True])

    def test_a_call_that_ended_before_its_task_noticed_is_not_cancelled(self):
        async def main():
            task = asyncio.ensure_future(self.async_call("f"))
            await asyncio.sleep(0)
            self.calls[0].answer(True, 1)
            loop = asyncio.get_running_loop()
            # The task is cancelled before the loop looks at the mailbox, and runs after it.
            loop.call_soon(task.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.assertEqual((task.cancelled(), self.calls[0].is_cancelled), (True, False))

        self.run_loop(main())

    def test_each_loop_has_its_own_mailbox(self):
        barrier = threading.Barrier(5)

        async def main(i):
            self.on_start = lambda call: call.answer(True, call.args[0])
            await self.async_call("f", i)
            barrier.wait(60)
            results.append(await self.async_call("f", i) == i)
            seen.add(len(Mailbox.open))
            barrier.wait(60)

        results, seen = [], set()
        threads = [threading.Thread(target=lambda i=i: self.run_loop(main(i))) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((results, seen), ([True] * 5, {5}))

    def test_a_loop_that_is_closed_leaves_no_descriptor(self):
        """Also while calls are under way, and others know the loop, as asyncio's policy does."""
        loop = asyncio.new_event_loop()
        loop.set_debug(False)
        task = loop.create_task(self.async_call("f"))
        loop.run_until_complete(asyncio.sleep(0))
        call, = self.calls
        self.assertEqual(len(Mailbox.open), 1)
        task._log_destroy_pending = False  # it is meant to be
        gc.disable()
        self.addCleanup(gc.enable)
        loop.close()
        self.assertEqual((Mailbox.open, call.is_cancelled), ([], True))
        call.answer(True, 1)  # nobody is there
        task.get_coro().close()

    def test_exceptions_that_are_kept_do_not_keep_the_descriptor(self):
        async def main():
            kept = []
            for self.on_start in (lambda call: call.answer(False, Error("x")), lambda call: None):
                try:
                    await asyncio.wait_for(self.async_call("f"), 0.01)
                except (Error, asyncio.TimeoutError) as error:
                    kept.append(error)
            return kept

        gc.disable()
        self.addCleanup(gc.enable)
        kept = self.run_loop(main())
        self.assertEqual((len(kept), Mailbox.open), (2, []))

    def test_in_a_request_the_loop_looks_up_from_its_sleep(self):
        class Loop(asyncio.SelectorEventLoop):
            def call_at(self, when, callback, *args, **options):
                if callback.__name__ == "_look_up":
                    naps.append(when - self.time())
                    when = self.time() + 0.001
                return super().call_at(when, callback, *args, **options)

        async def main(times):
            pending = asyncio.ensure_future(self.async_call("f"))
            await asyncio.sleep(0)
            while len(naps) < times:
                await asyncio.sleep(0)
            self.calls[-1].answer(True, len(naps))
            return await pending

        self.requests.add(threading.get_ident())
        naps, loop = [], Loop()
        for times in (5, 10):
            self.assertGreaterEqual(loop.run_until_complete(main(times)), times)
        self.assertLess(max(naps), 2 * self.nap)
        loop.close()
        self.requests.clear()
        naps, loop = [], Loop()
        loop.run_until_complete(main(0))
        loop.close()
        self.assertEqual(naps, [])

    def test_a_nap_that_was_cut_off_is_followed_by_others(self):
        """An exception that ends the request may hit the callback that ends the nap."""
        class Loop(asyncio.SelectorEventLoop):
            now = 1000.0

            def time(self):
                return self.now

            def call_at(self, when, callback, *args, **options):
                armed.append(callback.__name__)
                return super().call_at(when, callback, *args, **options)

        armed, loop = [], Loop()
        self.requests.add(threading.get_ident())
        self.on_start = lambda call: call.answer(True, 1)
        for expected in (1, 1, 2):
            loop.run_until_complete(self.async_call("f"))
            self.assertEqual(armed, ["_look_up"] * expected)
            if expected == 1:
                loop._scheduled.clear()  # as if it had been hit
                loop.now += self.nap * 1.5
        loop.close()

    def test_a_pending_call_is_not_lost_to_the_garbage_collector(self):
        async def main():
            done = asyncio.Event()

            async def wait():
                await self.async_call("f")
                done.set()

            asyncio.ensure_future(wait())  # nobody keeps this task
            await asyncio.sleep(0)
            gc.collect()
            self.calls[0].answer(True, 1)
            await done.wait()

        self.run_loop(main())

    def test_a_loop_is_not_kept_alive(self):
        loop = asyncio.new_event_loop()
        self.on_start = lambda call: call.answer(True, 1)
        self.assertEqual(loop.run_until_complete(self.async_call("f")), 1)
        loop.close()
        known = weakref.ref(loop)
        del loop
        gc.collect()
        self.assertIsNone(known())
        self.assertEqual(len(self.loops), 0)


if __name__ == "__main__":
    unittest.main()
