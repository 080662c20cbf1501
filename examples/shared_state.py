# SPDX-License-Identifier: Apache-2.0
"""The Python half of the example shared_state: a counter of words, and a cache."""

import threading

import erlang


def count_words(text):
    """Adds the words of a text to the counters that everybody shares."""
    for word in text.split():
        erlang.state_incr("word:" + word)
    return erlang.state_incr("texts")


def count_in_threads(threads, times):
    """Threads of Python's own count as well."""
    def count():
        for _ in range(times):
            erlang.state_incr("ticks")

    running = [threading.Thread(target=count) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return erlang.state_get("ticks")


def settings():
    """What Erlang has set, with a default for what it has not."""
    limits = erlang.state_get("limits")
    return limits["max"], erlang.state_get("colour", "blue")


def square(n):
    """A result that is computed once, whichever interpreter is asked next."""
    key = ("square", n)
    known = erlang.state_get(key)
    if known is None:
        known = n * n
        erlang.state_incr("computed")
        erlang.state_set(key, known)
    return known
