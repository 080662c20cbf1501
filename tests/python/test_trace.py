# SPDX-License-Identifier: Apache-2.0
"""Spans of erlang._trace: who is whose parent, and what Erlang is told of them."""

import asyncio
import contextvars
import inspect
import random
import threading
import unittest

from under_test import Atom, Cancelled, load

INCOMING = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"


class Tracing(unittest.TestCase):
    def setUp(self):
        self.ended, self.is_on = [], True
        self.context = contextvars.ContextVar("trace_context", default=None)
        self.module = load("_trace", trace_context=self.context, trace_enabled=lambda: self.is_on,
                           span_ended=self.span_ended)
        self.Span, self.trace = self.module.Span, self.module.trace

    def span_ended(self, span):
        self.ended.append(span)
        return True

    def names(self):
        return [span["name"] for span in self.ended]

    def parent(self, name):
        """The name of the parent of the span of this name."""
        span, = [span for span in self.ended if span["name"] == name]
        found = [other["name"] for other in self.ended if other["span_id"] == span["parent_span_id"]]
        return found[0] if found else None


class Spans(Tracing):
    def test_all_parts_are_told(self):
        with self.Span("load", rows=10) as span:
            span.set_attribute("thing", object)
            span.add_event("half", of="it")
        told, = self.ended
        self.assertEqual({type(key) for key in told}, {Atom})
        self.assertEqual((told["name"], told["attributes"], told["status"], told["kind"]),
                         ("load", {"rows": 10, "thing": repr(object)}, "ok", "python"))
        self.assertEqual({type(told["status"]), type(told["kind"]), type(told["parent_span_id"])}, {Atom})
        self.assertEqual(told["parent_span_id"], "undefined")
        self.assertRegex(told["trace_id"], "^[0-9a-f]{32}$")
        self.assertRegex(told["span_id"], "^[0-9a-f]{16}$")
        event, = told["events"]
        self.assertEqual((event["name"], event["attributes"]), ("half", {"of": "it"}))
        self.assertLessEqual(told["start_time"], event["time"])
        self.assertGreaterEqual(told["duration_ns"], 0)
        self.assertEqual(span.traceparent, "00-%s-%s-01" % (told["trace_id"], told["span_id"]))

    def test_spans_within_are_children(self):
        with self.Span("a"):
            with self.Span("b"):
                with self.Span("c"):
                    pass
            with self.Span("d"):
                pass
        with self.Span("e"):
            pass
        self.assertEqual([(name, self.parent(name)) for name in self.names()],
                         [("c", "b"), ("b", "a"), ("d", "a"), ("a", None), ("e", None)])
        self.assertEqual(len({span["trace_id"] for span in self.ended}), 2)
        self.assertIsNone(self.context.get())

    def test_the_context_that_came_from_erlang_is_the_parent(self):
        token = self.context.set(INCOMING)
        with self.Span("a") as span:
            self.assertIs(self.context.get(), span)
        self.assertEqual((self.ended[0]["trace_id"], self.ended[0]["parent_span_id"]), ("a" * 32, "b" * 16))
        self.assertEqual(self.context.get(), INCOMING)
        self.context.reset(token)

    def test_an_exception_makes_the_status_an_error(self):
        for error in (ValueError("x\ud800"), Cancelled("y"), KeyboardInterrupt()):
            with self.assertRaises(type(error)), self.Span("a"):
                raise error
        self.assertEqual([span["status"] for span in self.ended],
                         [("error", "ValueError: x\\ud800"), ("error", "Cancelled: y"),
                          ("error", "KeyboardInterrupt: ")])
        event, = self.ended[0]["events"]
        self.assertEqual((event["name"], event["attributes"]["exception.type"],
                          event["attributes"]["exception.message"]), ("exception", "ValueError", "x\\ud800"))
        self.assertIn("raise error", event["attributes"]["exception.stacktrace"])
        self.assertIsNone(self.context.get())

    def test_the_status_that_was_set_stays(self):
        with self.assertRaises(ValueError), self.Span("a") as span:
            span.set_status("error", "mine")
            raise ValueError
        with self.Span("b") as span:
            span.set_status("error", "no")
            span.set_status("ok")
        self.assertEqual([span["status"] for span in self.ended], [("error", "mine"), "ok"])
        with self.assertRaises(ValueError):
            span.set_status("fine")

    def test_an_exception_that_fails_to_tell_itself_is_told(self):
        class Broken(Exception):
            def __str__(self):
                raise ValueError

        with self.assertRaises(Broken), self.Span("a"):
            raise Broken
        self.assertIn("Broken", self.ended[0]["status"][1])

    def test_nothing_is_told_while_tracing_is_off(self):
        self.is_on = False
        with self.Span("a") as span:
            span.set_attribute("b", 1)
            span.add_event("c")
            span.record_exception(ValueError())
            self.assertIsNone(self.context.get())
        self.assertEqual((self.ended, span.events, span.traceparent, span.is_recording), ([], [], None, False))

    def test_a_span_ends_also_if_tracing_was_turned_off_or_on_meanwhile(self):
        with self.Span("a"):
            self.is_on = False
        with self.Span("b"):
            self.is_on = True
        self.assertEqual((self.names(), self.context.get()), (["a"], None))

    def test_a_span_is_entered_once(self):
        with self.Span("a") as span:
            with self.assertRaises(RuntimeError), span:
                pass
        with self.assertRaises(RuntimeError), span:
            pass
        self.assertEqual((self.names(), self.context.get()), (["a"], None))
        with self.assertRaises(TypeError):
            self.Span(b"a")

    def test_the_sequence_of_random_is_the_users(self):
        random.seed(5)
        expected = random.random()
        random.seed(5)
        with self.Span("a"):
            self.assertEqual(random.random(), expected)


class Elsewhere(Tracing):
    def test_tasks_have_the_span_that_they_were_started_in(self):
        async def child(name):
            async with self.Span(name):
                await asyncio.sleep(0)
                async with self.Span(name + "1"):
                    await asyncio.sleep(0)

        async def main():
            async with self.Span("main"):
                await asyncio.gather(child("a"), child("b"), child("c"))

        asyncio.run(main())
        self.assertEqual([self.parent(name) for name in ("a", "b", "c", "a1", "b1", "c1")],
                         ["main", "main", "main", "a", "b", "c"])

    def test_threads_begin_without_one(self):
        def run(name):
            barrier.wait(60)
            with self.Span(name):
                barrier.wait(60)

        barrier = threading.Barrier(3)
        threads = [threading.Thread(target=contextvars.Context().run, args=(run, name)) for name in "ab"]
        with self.Span("main"):
            threads.append(threading.Thread(target=contextvars.copy_context().run, args=(run, "c")))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual([self.parent(name) for name in "abc"], [None, None, "main"])

    def test_a_span_may_end_in_another_context(self):
        span = contextvars.copy_context().run(lambda: self.Span("a").__enter__())
        span.__exit__(None, None, None)
        self.assertEqual((self.names(), self.context.get()), (["a"], None))


class Decorated(Tracing):
    def test_a_function_is_a_span_of_its_name(self):
        @self.trace(rows=3)
        def f(x, *, y):
            """About f."""
            with self.Span("inner"):
                return x + y

        @self.trace("other")
        def g():
            return f(1, y=2)

        class C:
            @staticmethod
            @self.trace(name="static")
            def s():
                return g()

            @self.trace()
            def m(self):
                return self.s()

        self.assertEqual(C().m(), 3)
        prefix = "Decorated.test_a_function_is_a_span_of_its_name.<locals>."
        self.assertEqual(self.names(), ["inner", prefix + "f", "other", "static", prefix + "C.m"])
        self.assertEqual(self.ended[1]["attributes"], {"rows": 3})
        self.assertEqual((f.__name__, f.__doc__, self.parent("inner")), ("f", "About f.", prefix + "f"))
        with self.assertRaises(TypeError):
            f(1)
        self.assertEqual(self.ended[-1]["status"][0], "error")

    def test_each_run_is_a_span_of_its_own(self):
        @self.trace("f")
        def f(n):
            self.context.get().set_attribute("n", n)
            return n and f(n - 1)

        f(2)
        self.assertEqual([span["attributes"] for span in self.ended], [{"n": 0}, {"n": 1}, {"n": 2}])
        self.assertEqual(len({span["span_id"] for span in self.ended}), 3)

    def test_a_coroutine_function_stays_one(self):
        @self.trace("f")
        async def f(n):
            await asyncio.sleep(0)
            return n and 1 + await f(n - 1)

        self.assertTrue(inspect.iscoroutinefunction(f))
        self.assertEqual(asyncio.run(f(2)), 2)
        self.assertEqual(len(self.ended), 3)
        self.assertEqual(self.ended[0]["parent_span_id"], self.ended[1]["span_id"])

    def test_a_generator_is_current_in_its_steps_only(self):
        @self.trace("g")
        def g():
            got = yield 1
            with self.Span("inner"):
                try:
                    yield got
                except KeyError:
                    yield self.context.get().name
            return "end"

        def whole():
            result = yield from g()
            self.assertEqual(result, "end")

        self.assertTrue(inspect.isgeneratorfunction(g))
        with self.Span("outer") as outer:
            it = whole()
            self.assertEqual(next(it), 1)
            self.assertIs(self.context.get(), outer)
            self.assertEqual(it.send("sent"), "sent")
            self.assertEqual(it.throw(KeyError("k")), "inner")
            self.assertEqual(list(it), [])
        self.assertEqual((self.names(), self.parent("g")), (["inner", "g", "outer"], "outer"))
        self.assertEqual([span["status"] for span in self.ended], ["ok"] * 3)

    def test_a_generator_ends_its_span_however_it_ends(self):
        log = []

        @self.trace("g")
        def g(error=None):
            try:
                yield 1
                if error:
                    raise error
            finally:
                log.append(self.context.get().name)

        it = g()
        next(it)
        it.close()
        with self.assertRaises(ValueError):
            list(g(ValueError("x")))
        it = g()
        next(it)
        with self.assertRaises(KeyError):
            it.throw(KeyError("k"))
        it = g()
        next(it)
        del it
        self.assertEqual(log, ["g"] * 4)
        self.assertEqual([span["status"] for span in self.ended],
                         ["ok", ("error", "ValueError: x"), ("error", "KeyError: 'k'"), "ok"])
        self.assertIsNone(self.context.get())

    def test_an_asynchronous_generator_is_traced_alike(self):
        log = []

        @self.trace("g")
        async def g(error=None):
            try:
                got = yield 1
                await asyncio.sleep(0)
                with self.Span("inner"):
                    yield got
                if error:
                    raise error
            except KeyError:
                yield "caught"
            finally:
                await asyncio.sleep(0)
                log.append(getattr(self.context.get(), "name", None))

        async def main():
            for on in (True, False):
                self.is_on = on
                it = g()
                self.assertEqual(await it.__anext__(), 1)
                self.assertIsNone(self.context.get())
                self.assertEqual(await it.asend("sent"), "sent")
                with self.assertRaises(StopAsyncIteration):
                    await it.__anext__()
                it = g()
                await it.__anext__()
                self.assertEqual(await it.athrow(KeyError("k")), "caught")
                await it.aclose()
                with self.assertRaises(ValueError):
                    async for _ in g(ValueError("x")):
                        pass

        self.assertTrue(inspect.isasyncgenfunction(g))
        asyncio.run(main())
        self.assertEqual(log, ["g"] * 3 + [None] * 3)
        self.assertEqual(self.names(), ["inner", "g", "g", "inner", "g"])
        self.assertEqual(self.ended[0]["parent_span_id"], self.ended[1]["span_id"])
        self.assertEqual([span["status"] for span in self.ended if span["name"] == "g"],
                         ["ok", "ok", ("error", "ValueError: x")])

    def test_while_tracing_is_off_nothing_is_different(self):
        self.is_on = False

        @self.trace()
        def f():
            return 1

        @self.trace()
        def g():
            got = yield 1
            return got

        @self.trace()
        async def a():
            yield (yield 1)

        async def collect():
            it = a()
            return [await it.__anext__(), await it.asend(5)]

        it = g()
        next(it)
        with self.assertRaises(StopIteration) as stop:
            it.send(5)
        self.assertEqual((f(), stop.exception.value, asyncio.run(collect())), (1, 5, [1, 5]))
        self.assertEqual(self.ended, [])

    def test_what_cannot_be_traced_is_said(self):
        with self.assertRaises(TypeError):
            self.trace(len)
        with self.assertRaises(TypeError):
            self.trace()(5)
        self.assertEqual(self.trace("len")(len)("abc"), 3)


if __name__ == "__main__":
    unittest.main()
