# SPDX-License-Identifier: Apache-2.0
"""The Python half of reentrant_demo.erl: functions that call Erlang and are called by it."""

import erlang


def evaluate(expression):
    """The value of an expression; sums and differences are Python's work, the rest Erlang's."""
    if not isinstance(expression, tuple):
        return expression
    operator, left, right = expression
    if operator == "+":
        return evaluate(left) + evaluate(right)
    if operator == "-":
        return evaluate(left) - evaluate(right)
    return erlang.evaluate(expression)


def fibonacci(n):
    """The n-th Fibonacci number; Erlang remembers those that were asked for before."""
    steps.append(n)
    return n if n < 2 else erlang.fibonacci(n - 1) + erlang.fibonacci(n - 2)


# Which numbers were computed, and not looked up: each once.
steps = []


def computed():
    """The numbers that fibonacci() was called for."""
    return list(steps)


def descend(levels):
    """Who calls whom: a list of as many languages as levels, from here down."""
    return ["python"] + (erlang.descend(levels - 1) if levels > 1 else [])


class Account:
    """Money whose interest rate only Erlang knows."""

    def __init__(self, owner, balance):
        self.owner, self.balance = owner, balance

    def add_interest(self):
        """Asks for the rate in the middle of a method; returns the new balance."""
        self.balance += self.balance * erlang.call("rate", self.owner) // 100
        return self.balance

    def give(self, amount, other):
        """Erlang decides whether that is allowed: its exception passes through here."""
        erlang.approve(self.owner, amount)
        self.balance -= amount
        other.balance += amount
        return self.balance, other.balance


def careful(account, amount, other):
    """What an exception of Erlang looks like."""
    try:
        return account.give(amount, other)
    except erlang.Error as error:
        return (error.class_, error.reason)


def recover(key):
    """An exception of Python's comes back through Erlang as what it was."""
    try:
        return erlang.look_up(key)
    except KeyError as error:
        return ("no such key", *error.args)


def look_up(key):
    """Raises KeyError."""
    return {"a": 1}[key]


def record():
    """Calls Erlang twice; what stands between runs once."""
    log = ["begin"]
    log.append(erlang.call("rate", "first"))
    log.append(erlang.call("rate", "second"))
    return log
