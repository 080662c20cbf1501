# SPDX-License-Identifier: Apache-2.0
"""The Python half of the example logging: a shop that logs what it does and how long it took."""

import logging

import erlang

log = logging.getLogger("shop.orders")


def order(customer, items):
    """Logs at several levels; Erlang decides which of them it wants."""
    log.debug("looking at %d items", len(items))
    log.info("order of %s", customer, extra={"items": items, "customer": customer})
    if not items:
        log.warning("nothing to deliver")
    return len(items)


def divide(a, b):
    """Logs an exception with its traceback."""
    try:
        return a / b
    except ZeroDivisionError:
        log.exception("cannot divide %s", a)
        return None


@erlang.trace(kind="checkout")
def checkout(customer, items):
    """A span, with one within it, and a call of Erlang that makes another."""
    with erlang.Span("total", items=len(items)) as span:
        total = sum(erlang.call("price", item) for item in items)
        span.set_attribute("total", total)
    return f"{customer} pays {total}"
