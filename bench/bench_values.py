# SPDX-License-Identifier: Apache-2.0
"""The Python side of bench/run --values, under the bridge and under the port.

What is measured is the way of a value, so the functions do nothing else: `ignore`
takes one and drops it, `stored` returns one that was made before.  Both sides make the
values by themselves, by the same rules (bench_values_node.erl has the others), and
`is_same` tells whether what arrived is what was meant.
"""

import json
import time
from typing import Any, Callable, Dict

DIGITS = "0123456789abcdef"


def row(i: int) -> Dict[str, Any]:
    return {
        "id": i,
        "name": "name %d" % i,
        "price": i / 7,
        "count": i * 997,
        "active": i % 2 == 0,
    }


def text(size: int) -> Callable[[], str]:
    return lambda: DIGITS * (size // len(DIGITS))


MAKERS: Dict[str, Callable[[], Any]] = {
    "integers": lambda: [i * 997 for i in range(10000)],
    "floats": lambda: [i / 7 for i in range(10000)],
    "map": lambda: {"key_%d" % i: i for i in range(1000)},
    "rows": lambda: [row(i) for i in range(100)],
    "kb": text(1 << 10),
    "mb": text(1 << 20),
    "mb64": text(64 << 20),
}

plain: Dict[str, Any] = {}
encoded: Dict[str, bytes] = {}


def stored(name: str) -> Any:
    try:
        return plain[name]
    except KeyError:
        value = plain[name] = MAKERS[name]()
        return value


def stored_bytes(name: str) -> bytes:
    try:
        return encoded[name]
    except KeyError:
        value = encoded[name] = stored(name).encode()
        return value


def dumped(name: str) -> str:
    return json.dumps(stored(name))


def ignore(value: Any) -> None:
    return None


def busy(seconds: float) -> float:
    """Works for that long; how long it was."""
    begin = now = time.perf_counter()
    while now - begin < seconds:
        now = time.perf_counter()
    return now - begin


def load(text: str) -> None:
    json.loads(text)


def is_same(name: str, kind: str, value: Any) -> bool:
    """Did it arrive as an object of that type, and equal?"""
    wanted = stored(name) if isinstance(value, (str, list, dict)) else stored_bytes(name)
    return type(value).__name__ == kind and bool(value == wanted)


def is_same_text(name: str, text: str) -> bool:
    return bool(json.loads(text) == stored(name))
