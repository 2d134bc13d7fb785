"""The helper behind a server of the standard library, with databases of one list each, for the test."""

import contextlib
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from by_shard import by_shard


class Refused(Exception):
    """As psycopg raises it."""

    def __init__(self, sqlstate):
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class Pool:
    """A database: rows that were committed, and connections that were given back."""

    def __init__(self, is_closed=False):
        self.rows, self.is_closed, self.given_back = [], is_closed, 0

    @contextlib.contextmanager
    def connection(self):
        pending = []
        try:
            yield self, pending
            self.rows += pending
        finally:
            self.given_back += 1


def application(environ, start_response):
    pool, pending = environ["shard.connection"]
    if environ["REQUEST_METHOD"] == "POST":
        pending.append(environ["PATH_INFO"])
        if pool.is_closed:
            raise Refused("55006")
        if environ["PATH_INFO"].endswith("99"):
            raise Refused("23505")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['HTTP_X_SHARD']} {len(pool.rows + pending)} {pool.given_back}".encode()]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


pools = {"a": Pool(), "b": Pool(is_closed=True)}
with make_server("127.0.0.1", 0, by_shard(application, pools), Server, Quiet) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
