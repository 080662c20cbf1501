# SPDX-License-Identifier: Apache-2.0
"""What erlang.channel makes of the pipes of C: tasks that wait, and files."""

import asyncio
import collections
import gc
import io
import os
import sys
import unittest

from under_test import load


class ChannelClosed(Exception):
    """As C's."""


class Mailbox:
    """As C's."""

    def __init__(self):
        self.readable, self.writable = os.pipe()
        self.told = []
        self.is_closed = False

    def fileno(self):
        return self.readable

    def tell(self, what):
        self.told.append((what, True, None))
        os.write(self.writable, b"1")

    def drain(self):
        told, self.told = self.told, []
        os.read(self.readable, len(told))
        return told

    def close(self):
        if not self.is_closed:
            self.is_closed = True
            os.close(self.readable)
            os.close(self.writable)

    __del__ = close


class ChannelWait:
    """As C's; what it is given when the channel is closed is the class ChannelClosed."""

    def __init__(self, pipe, line, mailbox):
        self.pipe, self.line, self.mailbox, self.given = pipe, line, mailbox, []

    def give(self, item):
        self.given.append(item)
        self.mailbox.tell(self)

    def take(self):
        item = self.given.pop()
        if item is ChannelClosed:
            raise ChannelClosed
        return item

    def cancel(self):
        if self in self.line:
            self.line.remove(self)
        if self.given and self.line is self.pipe.receivers:
            self.pipe.put_back(self.given.pop())


class Pipe:
    """As C's; Erlang's side of it is in it too."""

    def __new__(cls, ref, *_):
        self = object.__new__(cls)
        self.__dict__ = ref
        for key, value in (("items", collections.deque()), ("receivers", []), ("senders", []), ("sent", []),
                           ("room", 1), ("closed", False)):
            ref.setdefault(key, value)
        return self

    def erlang_sends(self, item):
        if self.receivers:
            self.receivers.pop(0).give(item)
        else:
            self.items.append(item)

    def put_back(self, item):
        if self.receivers:
            self.receivers.pop(0).give(item)
        else:
            self.items.appendleft(item)

    def erlang_receives(self):
        self.room += 1
        while self.senders:
            self.senders.pop(0).give(None)
        return self.sent.pop(0)

    def close(self):
        self.closed = True
        while self.receivers:
            self.receivers.pop(0).give(ChannelClosed)

    def try_receive(self, default=None):
        if not self.items and self.closed:
            raise ChannelClosed
        return self.items.popleft() if self.items else default

    receive = try_receive

    def start_receive(self, mailbox):
        wait = ChannelWait(self, self.receivers, mailbox)
        if self.items or self.closed:
            wait.give(self.items.popleft() if self.items else ChannelClosed)
        else:
            self.receivers.append(wait)
        return wait

    def try_send(self, data):
        if not self.room:
            return False
        self.room -= 1
        self.sent.append(data)
        return True

    send = try_send

    def start_send(self, data, mailbox):
        if self.try_send(data):
            return None
        wait = ChannelWait(self, self.senders, mailbox)
        self.senders.append(wait)
        return wait

    def receive_into(self, buffer, timeout=None):
        if not self.items:
            return 0
        item = self.items.popleft()
        n = min(len(item), len(buffer))
        buffer[:n] = item[:n]
        if item[n:]:
            self.items.appendleft(item[n:])
        return n


def caller():
    raise RuntimeError("there is no request")


class Base(unittest.TestCase):
    def setUp(self):
        self.module = load("channel", Mailbox=Mailbox, ChannelClosed=ChannelClosed, Pipe=Pipe, self=caller,
                           async_start=None, wakeup_fd=None, set_quiet=None, check_cancelled=None,
                           send=lambda pid, term: self.messages.append((pid, term)))
        self.messages = []

    def channel(self):
        return self.module.Channel({"kind": 0})

    def run_loop(self, coroutine):
        return asyncio.run(asyncio.wait_for(coroutine, 60))


class Channel(Base):
    def test_an_item_that_is_there_is_received_at_once(self):
        channel = self.channel()
        channel.erlang_sends(None)
        with self.assertRaises(StopIteration) as stopped:
            channel.async_receive().send(None)
        self.assertIsNone(stopped.exception.value)

    def test_a_task_waits_for_its_item(self):
        async def main():
            channel = self.channel()
            tasks = [asyncio.ensure_future(channel.async_receive()) for _ in range(3)]
            await asyncio.sleep(0)
            for i in range(3):
                channel.erlang_sends(i)
            self.assertEqual(await asyncio.gather(*tasks), [0, 1, 2])

        self.run_loop(main())

    def test_an_item_that_comes_between_is_received(self):
        async def main():
            channel = self.channel()
            start = channel.start_receive

            def late(mailbox):
                channel.erlang_sends("late")
                return start(mailbox)

            channel.start_receive = late
            self.assertEqual(await channel.async_receive(), "late")

        self.run_loop(main())

    def test_a_task_that_is_cancelled_leaves_its_item(self):
        async def main(was_given):
            channel = self.channel()
            task = asyncio.ensure_future(channel.async_receive())
            await asyncio.sleep(0)
            if was_given:
                channel.erlang_sends("item")
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertEqual(channel.receivers, [])
            if not was_given:
                channel.erlang_sends("item")
            self.assertEqual(await channel.async_receive(), "item")

        for was_given in (False, True):
            self.run_loop(main(was_given))

    def test_the_future_that_was_set_leaves_its_item_too(self):
        async def main():
            channel = self.channel()
            task = asyncio.ensure_future(channel.async_receive())
            await asyncio.sleep(0)
            channel.erlang_sends("item")
            loop = asyncio.get_running_loop()
            # Runs after the reader has set the future, and before the task.
            loop.call_soon(loop.call_soon, task.cancel)
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertEqual(list(channel.items), ["item"])

        self.run_loop(main())

    def test_iterating_ends_with_the_channel(self):
        async def main():
            channel = self.channel()
            task = asyncio.ensure_future(self.collect(channel))
            await asyncio.sleep(0)
            channel.erlang_sends(1)
            channel.erlang_sends(2)
            channel.close()
            self.assertEqual(await task, [1, 2])
            self.assertEqual(await self.collect(channel), [])
            with self.assertRaises(ChannelClosed):
                await channel.async_receive()

        self.run_loop(main())

    async def collect(self, channel):
        return [item async for item in channel]

    def test_the_end_of_a_with_block_closes_it(self):
        async def main():
            async with self.channel() as channel:
                self.assertFalse(channel.closed)
            self.assertTrue(channel.closed)

        self.run_loop(main())

    def test_the_kind_is_checked(self):
        for kind, made in enumerate((self.module.Channel, self.module.ByteChannel, self.module.PyBuffer)):
            for other in {0, 1, 2} - {kind}:
                with self.assertRaisesRegex(TypeError, r"py_\w+:new\(\)"):
                    made({"kind": other})


class ByteChannel(Base):
    def test_a_task_waits_for_room(self):
        async def main():
            channel = self.module.ByteChannel({"kind": 1})
            await channel.async_send_bytes(b"1")
            tasks = [asyncio.ensure_future(channel.async_send_bytes(data)) for data in (b"2", b"3")]
            await asyncio.sleep(0)
            self.assertEqual(len(channel.senders), 2)
            found = []
            for _ in range(3):
                found.append(channel.erlang_receives())
                while not channel.sent and len(found) < 3:
                    await asyncio.sleep(0)
            await asyncio.gather(*tasks)
            self.assertEqual(sorted(found), [b"1", b"2", b"3"])

        self.run_loop(main())

    def test_a_sender_that_is_cancelled_sends_nothing(self):
        async def main():
            channel = self.module.ByteChannel({"kind": 1, "room": 0})
            task = asyncio.ensure_future(channel.async_send_bytes(b"1"))
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertEqual((channel.senders, channel.sent), ([], []))

        self.run_loop(main())


class PyBuffer(Base):
    def buffer(self, *items):
        return self.module.PyBuffer({"kind": 2, "items": collections.deque(items)})

    def test_it_reads_as_a_file(self):
        file = self.buffer(b"one\nt", b"wo\n", b"three")
        self.assertIsInstance(file, io.BufferedIOBase)
        self.assertEqual([file.readline(), file.read(2), file.readline(), file.read()],
                         [b"one\n", b"tw", b"o\n", b"three"])
        self.assertEqual(file.read(), b"")

    def test_closing_it_closes_the_buffer(self):
        ref = {"kind": 2}
        with self.module.PyBuffer(ref):
            self.assertFalse(ref["closed"])
        self.assertTrue(ref["closed"])

    def test_giving_it_up_closes_the_buffer(self):
        ref = {"kind": 2}
        self.module.PyBuffer(ref)
        gc.collect()
        self.assertTrue(ref["closed"])


class Reply(Base):
    def test_it_sends_to_processes(self):
        stub = sys.modules[self.module.__name__]
        pid = stub.Pid()
        stub.reply(pid, 1)
        self.assertEqual(self.messages, [(pid, 1)])
        with self.assertRaises(TypeError):
            stub.reply("name", 1)


if __name__ == "__main__":
    unittest.main()
