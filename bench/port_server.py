# SPDX-License-Identifier: Apache-2.0
"""The other end of the port that the benchmarks compare with.

A user without a bridge starts a Python process under a port with {packet, 4},
sends it terms in the external term format and reads the answers.  This is that
process, written to be the fastest such a user could reasonably write in pure
Python, because a comparison with a slow one would prove nothing:

- one os.read() takes all the requests that have piled up, one os.write()
  answers them all, so that with many callers a system call is shared by many;
- a term is decoded by one jump through a table, straight from the bytes read;
- atoms and callables are looked up in dictionaries, not made again.

A request is {Tag, Module, Function, Args}, an answer {Tag, {ok, Result}} or
{Tag, {error, {Type, Message}}}.  The tag (a reference) is not looked into: its
bytes are sent back.  The format is described in the "External Term Format"
chapter of the ERTS User's Guide.
"""

import importlib
import os
import struct
from typing import Any, Callable, Dict, List, Tuple

Decoded = Tuple[Any, int]  # a value, and the offset behind it

VERSION = 131

u16 = struct.Struct(">H").unpack_from
u32 = struct.Struct(">I").unpack_from
i32 = struct.Struct(">i").unpack_from
f64 = struct.Struct(">d").unpack_from

pack_header = struct.Struct(">IB").pack  # length of a packet, version of the format
pack_u32 = struct.Struct(">BI").pack
pack_i32 = struct.Struct(">Bi").pack
pack_f64 = struct.Struct(">Bd").pack


class Atom(str):
    """An atom that has no counterpart in Python."""


class Opaque(bytes):
    """A term in its external form, to be sent back as it came."""


# ---------------------------------------------------------------- decoding

# The three atoms that mean a Python value; others are added as they come.
# A port user trusts the Erlang side, whose atoms are bounded.
atoms: Dict[bytes, Any] = {b"true": True, b"false": False, b"none": None}


def atom(name: bytes, encoding: str) -> Any:
    try:
        return atoms[name]
    except KeyError:
        value = atoms[name] = Atom(name.decode(encoding))
        return value


def small_integer(b: bytes, i: int) -> Decoded:
    return b[i], i + 1


def integer(b: bytes, i: int) -> Decoded:
    return i32(b, i)[0], i + 4


def new_float(b: bytes, i: int) -> Decoded:
    return f64(b, i)[0], i + 8


def small_big(b: bytes, i: int) -> Decoded:
    return big(b, i + 1, b[i])


def large_big(b: bytes, i: int) -> Decoded:
    return big(b, i + 4, u32(b, i)[0])


def big(b: bytes, i: int, size: int) -> Decoded:
    end = i + 1 + size
    value = int.from_bytes(b[i + 1 : end], "little")
    return (-value if b[i] else value), end


def atom_latin1(b: bytes, i: int) -> Decoded:
    end = i + 2 + u16(b, i)[0]
    return atom(b[i + 2 : end], "latin-1"), end


def atom_utf8(b: bytes, i: int) -> Decoded:
    end = i + 2 + u16(b, i)[0]
    return atom(b[i + 2 : end], "utf-8"), end


def small_atom_utf8(b: bytes, i: int) -> Decoded:
    end = i + 1 + b[i]
    return atom(b[i + 1 : end], "utf-8"), end


def binary(b: bytes, i: int) -> Decoded:
    end = i + 4 + u32(b, i)[0]
    data = b[i + 4 : end]
    try:
        return data.decode(), end
    except UnicodeDecodeError:
        return data, end


def nil(b: bytes, i: int) -> Decoded:
    return [], i


def string(b: bytes, i: int) -> Decoded:
    end = i + 2 + u16(b, i)[0]
    return list(b[i + 2 : end]), end


def elements(b: bytes, i: int, count: int) -> Tuple[List[Any], int]:
    values = []
    for _ in range(count):
        value, i = DECODERS[b[i]](b, i + 1)
        values.append(value)
    return values, i


def proper_list(b: bytes, i: int) -> Decoded:
    values, i = elements(b, i + 4, u32(b, i)[0])
    if b[i] != 106:
        raise ValueError("improper list")
    return values, i + 1


def small_tuple(b: bytes, i: int) -> Decoded:
    values, i = elements(b, i + 1, b[i])
    return tuple(values), i


def large_tuple(b: bytes, i: int) -> Decoded:
    values, i = elements(b, i + 4, u32(b, i)[0])
    return tuple(values), i


def mapping(b: bytes, i: int) -> Decoded:
    values, i = elements(b, i + 4, 2 * u32(b, i)[0])
    return dict(zip(values[::2], values[1::2])), i


def newer_reference(b: bytes, i: int) -> Decoded:
    # Count of words, node (an atom in one of two forms), creation, the words.
    node = i + 4 + u16(b, i + 3)[0] + 1 if b[i + 2] != 119 else i + 4 + b[i + 3]
    end = node + 4 + 4 * u16(b, i)[0]
    return Opaque(b[i - 1 : end]), end


def unknown(b: bytes, i: int) -> Decoded:
    raise ValueError("no decoder for tag %d" % b[i - 1])


DECODERS: List[Callable[[bytes, int], Decoded]] = [unknown] * 256
for tag, decoder in {
    70: new_float,
    90: newer_reference,
    97: small_integer,
    98: integer,
    100: atom_latin1,
    104: small_tuple,
    105: large_tuple,
    106: nil,
    107: string,
    108: proper_list,
    109: binary,
    110: small_big,
    111: large_big,
    116: mapping,
    118: atom_utf8,
    119: small_atom_utf8,
}.items():
    DECODERS[tag] = decoder


# ---------------------------------------------------------------- encoding


def encode_atom(value: str) -> bytes:
    data = value.encode()
    if len(data) < 256:
        return b"\x77" + bytes((len(data),)) + data
    return b"\x76" + struct.pack(">H", len(data)) + data


def encode_bool(value: bool) -> bytes:
    return b"\x77\x04true" if value else b"\x77\x05false"


def encode_none(value: None) -> bytes:
    return b"\x77\x04none"


def encode_int(value: int) -> bytes:
    if 0 <= value < 256:
        return bytes((97, value))
    if -(1 << 31) <= value < 1 << 31:
        return pack_i32(98, value)
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) // 8
    head = bytes((110, size)) if size < 256 else pack_u32(111, size)
    return head + bytes((value < 0,)) + magnitude.to_bytes(size, "little")


def encode_float(value: float) -> bytes:
    if value - value != 0.0:  # true of nan and of both infinities
        return encode_atom(repr(value).replace("-", "neg_").replace("inf", "infinity"))
    return pack_f64(70, value)


def encode_bytes(value: bytes) -> bytes:
    return pack_u32(109, len(value)) + value


def encode_str(value: str) -> bytes:
    return encode_bytes(value.encode())


def encode_list(value: List[Any]) -> bytes:
    if not value:
        return b"\x6a"
    return pack_u32(108, len(value)) + b"".join(map(encode, value)) + b"\x6a"


def encode_tuple(value: Tuple[Any, ...]) -> bytes:
    count = len(value)
    head = bytes((104, count)) if count < 256 else pack_u32(105, count)
    return head + b"".join(map(encode, value))


def encode_dict(value: Dict[Any, Any]) -> bytes:
    pairs = b"".join([encode(k) + encode(v) for k, v in value.items()])
    return pack_u32(116, len(value)) + pairs


ENCODERS: Dict[type, Callable[[Any], bytes]] = {
    Atom: encode_atom,
    Opaque: bytes,
    bool: encode_bool,
    bytes: encode_bytes,
    dict: encode_dict,
    float: encode_float,
    int: encode_int,
    list: encode_list,
    str: encode_str,
    tuple: encode_tuple,
    type(None): encode_none,
}


def encode(value: Any) -> bytes:
    encoder = ENCODERS.get(type(value))
    if encoder is None:
        raise TypeError("no term for %s" % type(value).__name__)
    return encoder(value)


# ---------------------------------------------------------------- serving

callables: Dict[Tuple[str, str], Callable[..., Any]] = {}


def find(module: str, function: str) -> Callable[..., Any]:
    found = getattr(importlib.import_module(module), function)
    callables[module, function] = found
    return found


def perform(tag: Opaque, module: str, function: str, args: List[Any]) -> bytes:
    """The packet that answers one request."""
    try:
        call = callables.get((module, function)) or find(module, function)
        body = b"\x68\x02\x77\x02ok" + encode(call(*args))
    except Exception as error:
        body = encode((Atom("error"), (Atom(type(error).__name__), str(error))))
    return pack_header(3 + len(tag) + len(body), VERSION) + b"\x68\x02" + tag + body


def read_until(have: bytes, wanted: int) -> bytes:
    """More of the input, at least `wanted` bytes of it; b"" at its end."""
    chunks = [have]
    size = len(have)
    while size < wanted:
        chunk = os.read(0, 1 << 16)
        if not chunk:
            return b""
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def write_all(data: bytes) -> None:
    written = os.write(1, data)
    while written < len(data):
        data = data[written:]
        written = os.write(1, data)


def serve() -> None:
    buffer = b""
    wanted = 4
    while True:
        buffer = read_until(buffer, wanted)
        if not buffer:
            return
        answers = []
        start = 0
        size = len(buffer)
        while True:
            if size - start < 4:
                wanted = 4
                break
            end = start + 4 + u32(buffer, start)[0]
            if end > size:
                wanted = end - start
                break
            # The version stands at start + 4, the tuple's tag behind it.
            request, _ = DECODERS[buffer[start + 5]](buffer, start + 6)
            answers.append(perform(*request))
            start = end
        if start:
            buffer = buffer[start:]
            write_all(b"".join(answers))


if __name__ == "__main__":
    serve()
