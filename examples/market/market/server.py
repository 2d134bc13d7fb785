"""The HTTP server: a thread per connection, keep-alive, and an end that loses no request."""

import socket
import socketserver
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from .messages import Problem, Request

MAX_BODY = 1 << 20
IDLE_SECONDS = 60


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for requests in flight
    request_queue_size = 128

    def __init__(self, address, app):
        self.app = app
        self._lock = threading.Lock()
        self._idle = set()
        self.draining = False
        super().__init__(address, Handler)

    def server_bind(self):
        # The one of HTTPServer asks DNS for the host's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def mark_idle(self, connection):
        with self._lock:
            self._idle.add(connection)
            if self.draining:
                _stop_reading(connection)

    def mark_busy(self, connection):
        with self._lock:
            self._idle.discard(connection)

    def drain(self):
        """Stops accepting, lets idle connections go, and waits for the busy ones."""
        self.shutdown()
        with self._lock:
            self.draining = True
            for connection in self._idle:
                _stop_reading(connection)
        self.server_close()

    def handle_error(self, request, client_address):
        # A client that went away is no fault of ours.
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


def _stop_reading(connection):
    """What has arrived is still read and answered; after it comes the end of input."""
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    wbufsize = -1  # head and body leave in one segment
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.mark_idle(self.connection)

    def finish(self):
        self.server.mark_busy(self.connection)
        super().finish()

    def parse_request(self):
        self.server.mark_busy(self.connection)
        return super().parse_request()

    def handle_one_request(self):
        super().handle_one_request()
        if not self.close_connection:
            self.server.mark_idle(self.connection)

    def do_GET(self):
        started = time.monotonic()
        target = urlsplit(self.path)
        request = Request(self.command, target.path, target.query, self.headers)
        try:
            request.body = self._read_body()
            response = self.server.app.answer(request)
        except Problem as problem:
            # The rest of the body was not read: what follows is no request.
            self.close_connection = True
            response = problem.response()
        except OSError:
            self.close_connection = True
            return
        except Exception:
            traceback.print_exc()
            response = Problem(500, "a fault of the application; its log says more").response()
        self._send(response)
        self._log_access(request, response, time.monotonic() - started)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def send_error(self, code, message=None, explain=None):
        """Called by the base class for requests it could not read."""
        self.close_connection = True
        self._send(Problem(code, message or "not understood").response())

    def _send(self, response):
        self.send_response_only(response.status)
        self.send_header("Date", self.date_time_string())
        for name, value in response.headers:
            self.send_header(name, value)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection or self.server.draining:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def _read_body(self):
        if "Transfer-Encoding" in self.headers:
            if self.headers["Transfer-Encoding"].strip().lower() != "chunked" or "Content-Length" in self.headers:
                raise Problem(400, "only chunked bodies, and those without a Content-Length")
            return self._read_chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            raise Problem(400, "Content-Length must be a number")
        return self._read_exactly(int(length))

    def _read_chunks(self):
        body = b""
        while True:
            size = self.rfile.readline(1024).split(b";")[0].strip()
            try:
                size = int(size, 16)
            except ValueError:
                raise Problem(400, "a broken chunk") from None
            if size == 0:
                break
            body += self._read_exactly(size, len(body))
            self.rfile.readline(1024)
        while self.rfile.readline(8192).strip():
            pass  # trailers
        return body

    def _read_exactly(self, length, already=0):
        if not 0 <= length <= MAX_BODY - already:
            raise Problem(413, f"at most {MAX_BODY} bytes")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client went away")
        return body

    def _log_access(self, request, response, seconds):
        """The combined log format, with the seconds taken at the end."""
        line = (
            f'{self.client_address[0]} - {request.user or "-"} [{_log_time()}] '
            f'"{_clean(self.requestline)}" {response.status} {len(response.body)} '
            f'"{_clean(self.headers.get("Referer", "-"))}" "{_clean(self.headers.get("User-Agent", "-"))}" {seconds:.3f}\n'
        )
        sys.stderr.write(line)


def _log_time():
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())


def _clean(text):
    """Clients choose these texts: quotes and control characters would forge log lines."""
    return "".join(char if char.isprintable() and char != '"' else "?" for char in text)
