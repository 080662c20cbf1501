# SPDX-License-Identifier: Apache-2.0
"""Records of logging as erlang._logging hands them to C."""

import contextlib
import io
import logging
import sys
import threading
import time
import unittest

from under_test import Atom, Cancelled, load


class Logging(unittest.TestCase):
    def setUp(self):
        self.sent = []
        self.module = load("_logging", log=self.log)
        self.root = logging.getLogger()
        self.before = self.root.handlers[:], self.root.level
        self.root.handlers.clear()
        self.addCleanup(self.restore)

    def restore(self):
        self.root.handlers[:], level = self.before
        self.root.setLevel(level)

    def log(self, level, message, meta):
        self.sent.append((level, message, meta))
        return True

    def logger(self, level=logging.DEBUG):
        self.module.setup_logging(level)
        return logging.getLogger("a.b")

    def test_a_record_is_told_with_where_it_comes_from(self):
        before = time.time_ns() // 1000
        self.logger().warning("x is %d", 5)
        (level, message, meta), = self.sent
        self.assertEqual((level, type(level), message), ("warning", Atom, "x is 5"))
        self.assertEqual({type(key) for key in meta}, {Atom})
        self.assertLessEqual(before - 1, meta["time"])
        self.assertEqual((meta["logger"], meta["module"], meta["file"], meta["function"], meta["thread"]),
                         ("a.b", "test_logging", __file__, "test_a_record_is_told_with_where_it_comes_from",
                          threading.current_thread().name))
        self.assertIsInstance(meta["line"], int)
        self.assertNotIn("extra", meta)

    def test_fields_of_extra_go_along(self):
        thing = object()
        self.logger().info("x", extra={"user": "ä", "ids": [1, thing], "\ud800": None})
        self.assertEqual(self.sent[0][2]["extra"], {"user": "ä", "ids": [1, repr(thing)], "\\ud800": None})

    def test_an_exception_is_formatted_into_the_message(self):
        try:
            1 / 0
        except ZeroDivisionError:
            self.logger().exception("failed")
        level, message, meta = self.sent[0]
        self.assertEqual(level, "error")
        self.assertTrue(message.startswith("failed\nTraceback"))
        self.assertTrue(message.endswith("ZeroDivisionError: division by zero"))
        self.assertNotIn("extra", meta)

    def test_levels_between_erlangs_are_told_as_the_lower_one(self):
        logger = self.logger(1)
        for number in (1, 10, 15, 20, 25, 30, 39, 40, 50, 99):
            logger.log(number, "x")
        self.assertEqual([level for level, _, _ in self.sent],
                         ["debug", "debug", "debug", "info", "info", "warning", "warning", "error", "critical",
                          "critical"])

    def test_levels_are_python_s_or_erlang_s(self):
        for level, number in ((10, 10), ("INFO", 20), ("warning", 30), ("Warn", 30), ("notice", 25), ("error", 40),
                              ("critical", 50), (Atom("debug"), 10), ("all", 0)):
            self.module.setup_logging(level)
            self.assertEqual(self.root.level, number)
        for level in ("alert", "emergency", "none"):
            self.logger(level).critical("x")
        self.assertEqual(self.sent, [])
        for wrong in ("loud", "", 1.5, True, b"info"):
            with self.subTest(wrong), self.assertRaises(ValueError):
                self.module.setup_logging(wrong)

    def test_setting_up_twice_changes_the_level_only(self):
        other = logging.NullHandler()
        self.root.addHandler(other)
        self.module.setup_logging("info")
        self.module.setup_logging("error")
        self.module.setup_logging()
        self.assertEqual([type(handler).__name__ for handler in self.root.handlers], ["NullHandler", "ErlangHandler"])
        self.assertEqual(self.root.level, logging.ERROR)
        logging.getLogger("a").warning("x")
        self.assertEqual(self.sent, [])

    def test_what_fails_is_not_raised_into_the_application(self):
        logger, said = self.logger(), io.StringIO()
        with contextlib.redirect_stderr(said):
            logger.info("%d", "no number")
        self.assertEqual(self.sent, [])
        self.assertIn("--- Logging error ---", said.getvalue())
        self.assertIn("no number", said.getvalue())

        class Ends:
            def __str__(self):
                raise Cancelled

        with self.assertRaises(Cancelled):  # which is for the request, not for the log
            logger.info("%s", Ends())

    def test_text_that_is_no_UTF8_is_escaped(self):
        logging.getLogger("\ud800")
        self.logger().info("a\ud800")
        self.assertEqual(self.sent[0][1], "a\\ud800")

    def test_nobody_waits_for_a_message_that_takes_long_to_format(self):
        logger, entered, leave = self.logger(), threading.Event(), threading.Event()

        class Slow:
            def __str__(self):
                entered.set()
                leave.wait(60)
                return "slow"

        thread = threading.Thread(target=lambda: logger.info("%s", Slow()))
        thread.start()
        self.assertTrue(entered.wait(60))
        logger.info("fast")
        leave.set()
        thread.join()
        self.assertEqual([message for _, message, _ in self.sent], ["fast", "slow"])

    def test_filters_and_formatters_of_users_count(self):
        logger = self.logger()
        handler, = self.root.handlers
        handler.addFilter(lambda record: "secret" not in record.getMessage())
        handler.setFormatter(logging.Formatter("<%(message)s>"))
        logger.info("secret")
        logger.info("open")
        self.assertEqual([(message, "extra" in meta) for _, message, meta in self.sent], [("<open>", False)])

    @unittest.skipIf(sys.version_info < (3, 12), "records know their task from 3.12 on")
    def test_the_task_is_told(self):
        import asyncio

        async def main():
            asyncio.current_task().set_name("worker")
            self.logger().info("x")

        asyncio.run(main())
        self.assertEqual([meta.get("task") for _, message, meta in self.sent if message == "x"], ["worker"])


if __name__ == "__main__":
    unittest.main()
