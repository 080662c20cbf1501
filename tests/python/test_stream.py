# SPDX-License-Identifier: Apache-2.0
"""Batches of erlang._stream: never more than asked for, in order, and closed whatever ends them."""

import asyncio
import contextvars
import gc
import itertools
import threading
import time
import unittest

from under_test import Cancelled, load

stream = load("_stream")


class Log(list):
    def generator(self, n, error=None):
        try:
            for i in range(n):
                self.append(i)
                yield i
            if error is not None:
                raise error
        finally:
            self.append("end")

    async def asynchronous(self, n, error=None):
        try:
            for i in range(n):
                await asyncio.sleep(0)
                self.append(i)
                yield i
            if error is not None:
                raise error
        finally:
            await asyncio.sleep(0)
            self.append("end")


def everything(s, size, ms=None):
    items = []
    while True:
        done, batch = s.next(size, ms)
        assert len(batch) <= size
        items += batch
        if done:
            return items


class Both(unittest.TestCase):
    """What holds for generators of both kinds."""

    kinds = ("generator", "asynchronous")

    def each(self):
        for kind in self.kinds:
            log = Log()
            with self.subTest(kind):
                yield log, getattr(log, kind)

    def test_all_items_come_in_order(self):
        for log, make in self.each():
            for size, ms in itertools.product((1, 3, 1000), (None, 10, 0)):
                self.assertEqual(everything(stream.Stream(make(10)), size, ms), list(range(10)))

    def test_it_never_runs_ahead(self):
        for log, make in self.each():
            s = stream.Stream(make(10))
            self.assertEqual(log, [])
            self.assertEqual(s.next(2, None), (False, [0, 1]))
            self.assertEqual(log, [0, 1])
            s.close()

    def test_close_ends_the_generator_once(self):
        for log, make in self.each():
            s = stream.Stream(make(10))
            s.next(2, None)
            s.close()
            s.close()
            self.assertEqual(log, [0, 1, "end"])
            self.assertEqual(s.next(5, None), (True, []))

    def test_dropping_it_closes_it(self):
        for log, make in self.each():
            s = stream.Stream(make(10))
            s.next(1, None)
            del s
            gc.collect()
            self.assertEqual(log, [0, "end"])

    def test_an_exception_comes_after_the_items_before_it(self):
        for log, make in self.each():
            s = stream.Stream(make(2, ValueError("x")))
            self.assertEqual(s.next(10, None), (False, [0, 1]))
            with self.assertRaises(ValueError):
                s.next(10, None)
            self.assertEqual(s.next(10, None), (True, []))
            with self.assertRaises(ValueError):
                stream.Stream(make(0, ValueError("x"))).next(1, None)

    def test_what_ends_the_request_is_not_held_back(self):
        for log, make in self.each():
            s = stream.Stream(make(2, Cancelled()))
            with self.assertRaises(Cancelled):
                s.next(10, None)
            self.assertEqual(log, [0, 1, "end"])

    def test_the_last_batch_can_be_had_again(self):
        for log, make in self.each():
            s = stream.Stream(make(5))
            s.next(4, None)
            self.assertEqual(s.again(2), [0, 1])
            s.close()

    def test_another_step_is_refused_while_one_runs(self):
        s = None

        def reentrant():
            yield s.next(1, None)

        s = stream.Stream(reentrant())
        with self.assertRaises(RuntimeError):
            s.next(1, None)


class Iterables(unittest.TestCase):
    def test_anything_that_python_iterates_over(self):
        class Sequence:
            def __getitem__(self, i):
                return [5, 6][i]

        for value, items in (([1, 2], [1, 2]), ({"a": 1}, ["a"]), ("ab", ["a", "b"]), (Sequence(), [5, 6]),
                             (map(abs, [-1]), [1]), ((), [])):
            self.assertEqual(everything(stream.Stream(value), 10), items)

    def test_what_is_not_iterable_is_refused_in_the_words_of_python(self):
        with self.assertRaisesRegex(TypeError, "'int' object is not iterable"):
            stream.Stream(5)

    def test_a_generator_below_an_iterator_is_closed_as_well(self):
        log = Log()
        s = stream.Stream(map(abs, log.generator(5)))
        s.next(1, None)
        s.close()
        gc.collect()
        self.assertEqual(log, [0, "end"])

    def test_slow_items_do_not_wait_for_each_other(self):
        def slow():
            yield from range(100)
            for i in range(3):
                time.sleep(0.02)
                yield "slow"

        sizes, s = [], stream.Stream(slow())
        while True:
            done, items = s.next(1000, 5)
            sizes.append(items.count("slow"))
            if done:
                break
        self.assertLessEqual(max(sizes), 1)
        self.assertEqual(sum(sizes), 3)

    def test_fast_items_come_in_growing_batches(self):
        s, sizes = stream.Stream(range(100000)), []
        while True:
            done, items = s.next(100000, 10)
            sizes.append(len(items))
            if done:
                break
        self.assertEqual(sum(sizes), 100000)
        self.assertLess(len(sizes), 2000)

    def test_close_during_a_step_ends_it_on_its_way_out(self):
        log, entered, leave = [], threading.Event(), threading.Event()

        def generator():
            try:
                entered.set()
                leave.wait(60)
                yield 1
            finally:
                log.append("end")

        s, results = stream.Stream(generator()), []
        thread = threading.Thread(target=lambda: results.append(s.next(5, 10)))
        thread.start()
        entered.wait(60)
        s.close()
        self.assertEqual(log, [])
        leave.set()
        thread.join()
        self.assertEqual((results, log), ([(False, [1])], ["end"]))


class Asynchronous(unittest.TestCase):
    def test_items_do_not_wait_for_a_later_one(self):
        async def pausing():
            go_on.append(asyncio.get_running_loop().create_future())
            yield 1
            yield 2
            await go_on[0]
            yield 3

        go_on = []
        s = stream.Stream(pausing())
        self.assertEqual(s.next(10, 5), (False, [1, 2]))
        go_on[0].set_result(None)
        self.assertIn(s.next(10, 5), ((False, [3]), (True, [3])))
        self.assertEqual(s.next(10, 5), (True, []))

    def test_a_generator_is_one_task_on_one_loop(self):
        variable = contextvars.ContextVar("variable", default=0)

        async def generator():
            for _ in range(5):
                variable.set(variable.get() + 1)
                yield variable.get(), id(asyncio.get_running_loop()), id(asyncio.current_task())

        seen = []

        def step():
            seen.extend(s.next(1, None)[1])

        s = stream.Stream(generator())
        for _ in range(5):
            thread = threading.Thread(target=step)
            thread.start()
            thread.join()
        s.close()
        self.assertEqual([count for count, _, _ in seen], [1, 2, 3, 4, 5])
        self.assertEqual(len({rest for _, *rest in map(tuple, seen) for rest in [tuple(rest)]}), 1)

    def test_close_wakes_a_step_that_sleeps(self):
        log, entered = [], threading.Event()

        async def generator():
            try:
                entered.set()
                await asyncio.sleep(60)
                yield 1
            finally:
                log.append("end")

        s, errors = stream.Stream(generator()), []

        def step():
            try:
                s.next(1, None)
            except BaseException as error:
                errors.append(type(error))

        thread = threading.Thread(target=step)
        thread.start()
        entered.wait(60)
        s.close()
        thread.join(60)
        self.assertFalse(thread.is_alive())
        self.assertEqual((log, errors), (["end"], [asyncio.CancelledError]))

    def test_tasks_that_it_began_end_with_it(self):
        log = []

        async def background():
            try:
                await asyncio.sleep(60)
            finally:
                log.append("background")

        async def generator():
            task = asyncio.ensure_future(background())
            await asyncio.sleep(0)
            yield task is not None

        s = stream.Stream(generator())
        self.assertEqual(everything(s, 1), [True])
        self.assertEqual(log, ["background"])

    def test_iterators_that_are_no_generators(self):
        class Counter:
            def __init__(self):
                self.n = 0

            def __aiter__(self):
                return self

            async def __anext__(self):
                self.n += 1
                if self.n > 3:
                    raise StopAsyncIteration
                return self.n

        self.assertEqual(everything(stream.Stream(Counter()), 2), [1, 2, 3])

    def test_what_a_generator_raises_when_it_is_closed_is_told(self):
        async def generator():
            try:
                yield 1
                yield 2
            finally:
                raise ValueError("in finally")

        s = stream.Stream(generator())
        s.next(1, None)
        with self.assertRaisesRegex(ValueError, "in finally"):
            s.close()


if __name__ == "__main__":
    unittest.main()
