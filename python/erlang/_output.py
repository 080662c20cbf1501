# SPDX-License-Identifier: Apache-2.0
"""sys.stdout and sys.stderr: what Python prints goes to Erlang.

`_erlang.output()` sends text to the group leader of the process that called, and tells
whether it did: where the application was started with `redirect_output` false, what is
written goes to the stream that Python opened.
"""

from __future__ import annotations

import io
import sys
from _thread import _local
from codecs import getincrementaldecoder, lookup

from _erlang import output, output_flush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, TextIO, Union

    Bytes = Union[bytes, bytearray, memoryview]


_ESCAPE = "backslashreplace"  # as output() does by itself


def install() -> None:
    """Replaces the two streams of this interpreter."""
    sys.stdout = Output(sys.stdout, "<stdout>")
    sys.stderr = Output(sys.stderr, "<stderr>")


class Output(io.TextIOBase):
    """A text stream to Erlang, or to the original one."""

    mode = "w"
    line_buffering = True

    def __init__(self, original: Optional[TextIO], name: str) -> None:
        super().__init__()
        self._original = original
        self._errors = _ESCAPE
        self.name = name
        self.buffer = Buffer(self)

    @property
    def encoding(self) -> str:
        """Erlang's text is UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:
        """What becomes of lone surrogates."""
        return self._errors

    def original(self) -> Optional[TextIO]:
        """The stream that takes what is written here, or None if that is Erlang."""
        return None if output("") else self._original

    def __del__(self) -> None:
        """Nothing is kept here that would have to be written now."""

    def write(self, text: str) -> int:
        """Writes all of it."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        encoded = text if self._errors == _ESCAPE else text.encode("utf-8", self._errors).decode("utf-8")
        if not output(encoded) and self._original is not None:
            self._original.write(text)
        return len(text)

    def flush(self) -> None:
        """Sends what is held back until the end of its line."""
        original = self.original()
        if original is None:
            output_flush()
        else:
            original.flush()

    def close(self) -> None:
        """Flushes.  It is the stream of all code of this interpreter, whoever is done with it."""
        self.flush()

    def reconfigure(self, *, encoding: Optional[str] = None, errors: Optional[str] = None,
                    newline: Optional[str] = None, line_buffering: Optional[bool] = None,
                    write_through: Optional[bool] = None) -> None:
        """Takes another handler of errors; all else is as it is."""
        if encoding is not None and lookup(encoding).name != "utf-8":
            raise io.UnsupportedOperation("what Python prints in Erlang is UTF-8")
        if newline not in (None, "", "\n"):
            raise io.UnsupportedOperation("what Python prints in Erlang ends its lines by \\n")
        if line_buffering is False or write_through:
            raise io.UnsupportedOperation("what Python prints in Erlang is sent by lines; there is flush()")
        if errors is not None:
            self._errors = errors

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether a person sees it, Erlang does not tell."""
        original = self.original()
        return original is not None and original.isatty()

    def fileno(self) -> int:
        """Of the original stream."""
        original = self.original()
        if original is None:
            raise io.UnsupportedOperation("what Python prints goes to an Erlang process, which is no file")
        return original.fileno()


class Buffer(io.BufferedIOBase):
    """The same for bytes."""

    mode = "wb"

    def __init__(self, text: Output) -> None:
        super().__init__()
        self._text = text
        self._pending = _local()  # each thread may end a write in the middle of a character

    def __del__(self) -> None:
        """Nothing is kept here that would have to be written now."""

    @property
    def name(self) -> str:
        """As the text stream has it."""
        return self._text.name

    def write(self, data: Bytes) -> int:
        """Writes all of it; what is no UTF-8 as \\xNN."""
        original = self._text.original()
        if original is not None:
            original.flush()
            return original.buffer.write(data)
        with memoryview(data) as view:
            self._text.write(self._decoder().decode(view.tobytes()))
            return view.nbytes

    def _decoder(self):
        decoder = getattr(self._pending, "decoder", None)
        if decoder is None:
            decoder = self._pending.decoder = getincrementaldecoder("utf-8")(_ESCAPE)
        return decoder

    def flush(self) -> None:
        """As of the text stream."""
        self._text.flush()

    def close(self) -> None:
        """As of the text stream."""
        self._text.close()

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """As of the text stream."""
        return self._text.isatty()

    def fileno(self) -> int:
        """As of the text stream."""
        return self._text.fileno()
