# SPDX-License-Identifier: Apache-2.0
"""The WSGI application of http_server: with Flask, or plain where that is not installed."""

import erlang

try:
    import flask
except ImportError:
    flask = None


def numbers():
    for number in range(1, 1001):
        yield b"%d\n" % number


def summary(file):
    """What came in an upload, of which no more than a part is ever kept."""
    size, first = 0, b""
    while True:
        part = file.read(65536)
        if not part:
            return f"{size} bytes, the first is {first.decode()}"
        size, first = size + len(part), first or part[:1]


if flask is not None:
    from importlib.metadata import version

    app = flask.Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.route("/framework")
    def framework():
        return f"Flask {version('flask')}"

    @app.route("/hello/<name>")
    def hello(name):
        return f"Hello, {name}! " * flask.request.args.get("n", 1, type=int)

    @app.route("/price/<item>")
    def price(item):
        return f"{item} costs {erlang.call('price', item)}"

    @app.post("/upload")
    def upload():
        return summary(flask.request.stream)

    @app.route("/numbers")
    def all_numbers():
        return flask.Response(numbers(), mimetype="text/plain")

    @app.route("/fails")
    def fails():
        raise RuntimeError("on purpose")

else:
    from urllib.parse import parse_qs

    def app(environ, start_response):
        _, kind, *rest = environ["PATH_INFO"].encode("latin-1").decode().split("/")
        status, body = "200 OK", None
        if kind == "framework":
            body = "nothing but WSGI"
        elif kind == "hello":
            body = f"Hello, {rest[0]}! " * int(parse_qs(environ["QUERY_STRING"]).get("n", ["1"])[0])
        elif kind == "price":
            body = f"{rest[0]} costs {erlang.call('price', rest[0])}"
        elif kind == "upload":
            body = summary(environ["wsgi.input"])
        elif kind == "numbers":
            start_response(status, [("Content-Type", "text/plain")])
            return numbers()
        elif kind == "fails":
            raise RuntimeError("on purpose")
        else:
            status, body = "404 Not Found", "not found"
        encoded = body.encode()
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(encoded)))])
        return [encoded]
