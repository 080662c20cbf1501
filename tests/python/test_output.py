# SPDX-License-Identifier: Apache-2.0
"""The streams of erlang._output: what they hand to Erlang, or to the stream that was there."""

import io
import logging
import threading
import unittest

from under_test import load


class Streams(unittest.TestCase):
    def setUp(self):
        self.sent, self.is_on, self.flushed = [], True, 0
        self.module = load("_output", output=self.output, output_flush=self.flush)
        self.original = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        self.stream = self.module.Output(self.original, "<stdout>")

    def output(self, text):
        if self.is_on and text:
            self.sent.append(text)
        return self.is_on

    def flush(self):
        self.flushed += 1

    def test_text_goes_to_erlang(self):
        print("a", "ä€", file=self.stream, flush=True)
        self.assertEqual(("".join(self.sent), self.flushed), ("a ä€\n", 1))
        self.assertEqual(self.original.buffer.getvalue(), b"")
        self.assertEqual(self.stream.write("äb"), 2)
        self.stream.writelines(["c", "d"])
        logging.StreamHandler(self.stream).emit(logging.makeLogRecord({"msg": "logged"}))
        self.assertIn("logged", "".join(self.sent))

    def test_only_text_is_taken(self):
        for value in (b"a", 5, None):
            with self.subTest(value), self.assertRaises(TypeError):
                self.stream.write(value)

    def test_what_it_says_of_itself(self):
        s = self.stream
        self.assertEqual((s.encoding, s.errors, s.isatty(), s.writable(), s.readable(), s.seekable(), s.line_buffering),
                         ("utf-8", "backslashreplace", False, True, False, False, True))
        self.assertEqual((s.name, s.buffer.name), ("<stdout>", "<stdout>"))
        self.assertIsInstance(s, io.TextIOBase)
        for f in (s.fileno, s.buffer.fileno, s.read, s.readline, s.tell, s.detach):
            with self.assertRaises(io.UnsupportedOperation):
                f()

    def test_bytes_are_decoded_across_writes(self):
        for byte in "ä€😀".encode():
            self.assertEqual(self.stream.buffer.write(bytes([byte])), 1)
        self.assertEqual("".join(self.sent), "ä€😀")
        self.stream.buffer.write(memoryview(bytearray(b"a\xffb")))
        self.assertEqual(self.sent[-1], "a\\xffb")

    def test_threads_do_not_complete_each_others_characters(self):
        first, second = "ä".encode()[:1], "ä".encode()[1:]
        self.stream.buffer.write(first)
        thread = threading.Thread(target=lambda: self.stream.buffer.write(b"x"))
        thread.start()
        thread.join()
        self.stream.buffer.write(second)
        self.assertEqual([text for text in self.sent if text], ["x", "ä"])

    def test_without_redirection_the_original_stream_is_used(self):
        self.is_on = False
        self.stream.write("ä")
        self.stream.buffer.write(b"\xff")
        self.stream.flush()
        self.assertEqual((self.original.buffer.getvalue(), self.sent), (b"\xc3\xa4\xff", []))
        with self.assertRaises(io.UnsupportedOperation):
            self.stream.fileno()  # of a BytesIO
        self.assertFalse(self.stream.isatty())

    def test_without_any_stream_nothing_is_written(self):
        stream = self.module.Output(None, "<stdout>")
        self.is_on = False
        self.assertEqual(stream.write("x"), 1)
        self.assertEqual(stream.buffer.write(b"x"), 1)
        stream.flush()

    def test_reconfigure_takes_what_it_can_do_and_refuses_the_rest(self):
        self.stream.reconfigure(encoding="UTF8", errors="replace", line_buffering=True)
        self.stream.write("\ud800")
        self.assertEqual(self.sent, ["?"])
        self.stream.reconfigure(errors="strict")
        with self.assertRaises(UnicodeEncodeError):
            self.stream.write("\ud800")
        for wrong in ({"encoding": "latin-1"}, {"newline": "\r\n"}, {"write_through": True}, {"line_buffering": False}):
            with self.subTest(wrong), self.assertRaises(io.UnsupportedOperation):
                self.stream.reconfigure(**wrong)


if __name__ == "__main__":
    unittest.main()
