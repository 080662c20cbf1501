# SPDX-License-Identifier: Apache-2.0
"""asyncio's child processes, started by Erlang ports.

An Erlang port starts the program py_spawn, which connects to us, gets the descriptors and all
else that the child shall have, starts it, and says how it ended: c_src/py_spawn.c tells of the
protocol.  So the emulator does not fork, nobody needs the signal SIGCHLD or a thread that waits,
and children can be started from any thread of any interpreter.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from array import array
from asyncio.base_subprocess import BaseSubprocessTransport

from _erlang import Atom

from ._async import async_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, SubprocessProtocol, SubprocessTransport
    from collections.abc import Callable
    from typing import Any, Optional

_SPAWN = Atom("$py_spawn")

_log = logging.getLogger("asyncio")

# struct header, struct outcome and the wait status of c_src/py_spawn.c, and its constants.
_HEADER = struct.Struct("=11q")
_OUTCOME = struct.Struct("=iii")
_STATUS = struct.Struct("=i")
_MAX_FDS = 253
_NEW_SESSION, _RESTORE_SIGNALS, _HAS_CWD, _HAS_GROUPS = 1, 2, 4, 8
_EXEC, _CHDIR = 0, 1

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

_LOST = 255  # what asyncio reports when it cannot know


async def start(loop: AbstractEventLoop, protocol: SubprocessProtocol, args: Any, shell: bool, stdin: Any,
                stdout: Any, stderr: Any, bufsize: int, extra: Any, **kwargs: Any) -> SubprocessTransport:
    """Starts a child process; arguments and errors are those of subprocess.Popen.

    Refused with ValueError are preexec_fn and more than 249 pass_fds.
    """
    process = Process(args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, universal_newlines=False,
                      bufsize=bufsize, **kwargs)
    await process.start(loop)
    waiter = loop.create_future()
    transport = _Transport(loop, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter,
                           extra=extra, process=process)
    process.watch(loop, transport._process_exited)
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport


class _Transport(BaseSubprocessTransport):
    """asyncio's transport, of a process that has been started before."""

    def _start(self, *, process: Process, **_given: Any) -> None:
        self._proc = process


class Process(subprocess.Popen):
    """A Popen whose child is made by start(), as a child of py_spawn."""

    def __init__(self, args: Any, **kwargs: Any) -> None:
        self._request = _Request()
        self._connection: Optional[socket.socket] = None
        self._status_lock = threading.Lock()
        try:
            super().__init__(args, **kwargs)
        except BaseException:
            self._request.close()
            raise

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: bool, pass_fds: Any, cwd: Any,
                       env: Any, startupinfo: Any, creationflags: Any, shell: bool, p2cread: int, p2cwrite: int,
                       c2pread: int, c2pwrite: int, errread: int, errwrite: int, restore_signals: bool,
                       gid: Optional[int], gids: Optional[list[int]], uid: Optional[int], umask: int,
                       start_new_session: bool, process_group: int = -1) -> None:
        # Popen has checked startupinfo and creationflags.  Before Python 3.11 it passes no group.
        if preexec_fn is not None:
            raise ValueError("preexec_fn is not supported by event loops inside the Erlang VM: no Python runs in the "
                             "child before its program")
        args, executable = _command(args, executable, shell)
        sys.audit("subprocess.Popen", executable, args, cwd, env)
        request = self._request
        request.program, request.cwd = executable, cwd
        request.add_strings(args, executable, cwd, env)
        request.add_standard((p2cread, c2pwrite, errwrite))
        if close_fds:
            request.add_passed(pass_fds)
        else:
            request.add_inheritable()
        request.groups = gids
        request.flags = ((start_new_session and _NEW_SESSION) | (restore_signals and _RESTORE_SIGNALS)
                         | (cwd is not None and _HAS_CWD) | (gids is not None and _HAS_GROUPS))
        request.numbers = (umask, process_group, _or_none(uid), _or_none(gid))
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    async def start(self, loop: AbstractEventLoop) -> None:
        """Makes the child; OSError if that fails."""
        try:
            connection = self._connection = await _connect()
            await self._request.send(loop, connection)
            pid, stage, error = _OUTCOME.unpack(await _receive(loop, connection, _OUTCOME.size))
            if pid == 0:
                raise self._request.error(stage, error)
            connection.send(b"\0")  # from here on it is ours, and would be killed otherwise
        except BaseException:
            self._give_up()
            raise
        finally:
            self._request.close()
        self.pid = pid
        self._child_created = True

    def _give_up(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr, self._connection):
            if file is not None:
                file.close()

    def watch(self, loop: AbstractEventLoop, on_exit: Callable[[int], None]) -> None:
        """Has the loop call this with the exit code when the child has ended."""
        loop.add_reader(self._connection, self._on_readable, loop, on_exit)

    def _on_readable(self, loop: AbstractEventLoop, on_exit: Callable[[int], None]) -> None:
        returncode = self.poll()
        if returncode is not None:
            loop.remove_reader(self._connection)
            self._connection.close()
            on_exit(returncode)

    def _internal_poll(self, *_args: Any, **_kwargs: Any) -> Optional[int]:
        with self._status_lock:
            if self.returncode is None:
                self._take_status()
            return self.returncode

    def _take_status(self) -> None:
        try:
            data = self._connection.recv(_STATUS.size)
        except BlockingIOError:
            return
        except OSError:  # reset: py_spawn was killed
            data = b""
        if data:
            self.returncode = os.waitstatus_to_exitcode(*_STATUS.unpack(data))
        else:
            self.returncode = _LOST
            _log.warning("the parent of child process %d was killed, will report returncode %d", self.pid, _LOST)
        # py_spawn reaps the child now.  A loop that watches is told by the end of the connection
        # what another thread has learned here.
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # py_spawn has ended already

    def _wait(self, timeout: Optional[float]) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self._internal_poll() is None:
            left = None if end is None else max(0.0, end - time.monotonic())
            poller = select.poll()
            poller.register(self._connection, select.POLLIN)
            if not poller.poll(None if left is None else left * 1000) and left == 0.0:
                raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self._child_created:
            return
        if self.poll() is None:
            _warn(f"subprocess {self.pid} is still running", ResourceWarning, source=self)
        self._connection.close()


def _command(args: Any, executable: Any, shell: bool) -> tuple[list[Any], Any]:
    """The arguments and the program, as Popen understands them."""
    if isinstance(args, os.PathLike) and shell:
        raise TypeError("path-like args is not allowed when shell is true")
    args = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
    if shell:
        args = ["/bin/sh", "-c", *args]
        if executable:
            args[0] = executable
    return args, args[0] if executable is None else executable


def _inheritable_fds() -> list[int]:
    """What children of this process inherit just now, and get without close_fds."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            pass  # closed meanwhile, by another thread or as it was that of the directory
    return found


def _others(fds: Any) -> list[int]:
    """These without the standard ones."""
    others = sorted(set(map(int, fds)) - {0, 1, 2})
    if len(others) > _MAX_FDS - 4:
        raise ValueError(f"at most {_MAX_FDS - 4} pass_fds are supported by event loops inside the Erlang VM")
    return others


def _or_none(number: Optional[int]) -> int:
    return -1 if number is None else number


class _Request:
    """What py_spawn is to start."""

    def __init__(self) -> None:
        self.program: Any = None
        self.cwd: Any = None
        self.flags = 0
        self.groups: Optional[list[int]] = None
        self.numbers: tuple[int, ...] = ()
        self._strings: list[bytes] = []
        self._counts: tuple[int, ...] = ()
        self._fds = array("i")  # ours to close: copies, so that they are what they were when Popen was called
        self._targets = array("i")  # of all but the first

    def add_strings(self, args: list[Any], executable: Any, cwd: Any, env: Any) -> None:
        """The directory, the arguments, the files to try, the environment."""
        paths = _paths(os.fsencode(executable), env)
        variables = list(_variables(os.environb if env is None else env))
        self._strings = [b"" if cwd is None else os.fsencode(cwd), *map(os.fsencode, args), *paths, *variables]
        self._counts = (len(args), len(paths), len(variables))
        if any(b"\0" in string for string in self._strings):
            raise ValueError("embedded null byte")

    def add_standard(self, standard: tuple[int, ...]) -> None:
        """The directory that this process is in, and the three standard files."""
        self._fds.append(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for target, fd in enumerate(standard):
            try:
                self._add(target if fd == -1 else fd, target)
            except OSError as error:
                if fd != -1 or error.errno != errno.EBADF:
                    raise  # else the VM itself has none, so that the child shall have none

    def add_passed(self, fds: Any) -> None:
        """Those of pass_fds."""
        for fd in _others(fds):
            self._add(fd, fd)

    def add_inheritable(self) -> None:
        """Those that this process would leave to a child."""
        for fd in _others(_inheritable_fds()):
            try:
                self._add(fd, fd)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise  # else another thread has closed it meanwhile, so that there is nothing to inherit

    def _add(self, fd: int, target: int) -> None:
        self._fds.append(os.dup(fd))
        self._targets.append(target)

    def close(self) -> None:
        """Closes the descriptors."""
        while self._fds:
            os.close(self._fds.pop())

    async def send(self, loop: AbstractEventLoop, connection: socket.socket) -> None:
        """Hands all of it over."""
        text = b"".join(string + b"\0" for string in self._strings)
        groups = array("I", self.groups or ())
        header = _HEADER.pack(len(text), *self._counts, len(self._fds), len(groups), self.flags, *self.numbers)
        # The first bytes on a connection are taken at once.
        sent = connection.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, self._fds)])
        await loop.sock_sendall(connection, header[sent:] + self._targets.tobytes() + groups.tobytes() + text)

    def error(self, stage: int, number: int) -> OSError:
        """The exception that Popen would raise."""
        names = {_EXEC: self.program, _CHDIR: self.cwd}
        return OSError(number, os.strerror(number), names.get(stage))


def _paths(executable: bytes, env: Any) -> list[bytes]:
    if os.path.dirname(executable):
        return [executable]
    return [os.path.join(os.fsencode(directory), executable) for directory in os.get_exec_path(env)]


def _variables(env: Any) -> Any:
    for name, value in env.items():
        name = os.fsencode(name)
        if b"=" in name:
            raise ValueError("illegal environment variable name")
        yield name + b"=" + os.fsencode(value)


# ---- the connection

async def _connect() -> socket.socket:
    """A connection with a new py_spawn."""
    name = "erlang_python-" + secrets.token_hex(16)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("\0" + name)  # abstract: not in the file system
        listener.listen()
        listener.setblocking(False)
        helper = await async_call(_SPAWN, name)
        if not isinstance(helper, int):
            raise _error(helper)
        while True:
            connection, _ = listener.accept()  # it is there already
            connection.setblocking(False)
            if _peer(connection) == helper:
                return connection
            connection.close()  # somebody else has found us


def _error(answer: tuple[str, str]) -> OSError:
    number = getattr(errno, answer[1].upper(), errno.EAGAIN)  # system_limit: no more ports
    return OSError(number, f"Erlang cannot start py_spawn: {answer[1]}")


def _peer(connection: socket.socket) -> int:
    """The process id of the other side."""
    return _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]


async def _receive(loop: AbstractEventLoop, connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(connection, size - len(data))
        if not more:
            raise ChildProcessError(errno.ECHILD, "py_spawn ended before it started the child")
        data += more
    return data
