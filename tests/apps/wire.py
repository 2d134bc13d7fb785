"""One HTTP/1.1 exchange as its bytes are on the wire, and how two of them differ."""
import http.client
import re
import socket
import ssl
import time

WAIT = 20
# Fields that differ by nature. Connection, Keep-Alive and Transfer-Encoding are each hop's own; a
# hop adds the Date that an application left out (RFC 9110, section 6.6.1).
OF_THE_HOP = {"connection", "keep-alive", "transfer-encoding", "date", "x-request-id"}
COOKIE_VALUE = re.compile(r"^(Set-Cookie: [^=]+=)[^;]*", re.IGNORECASE)
# Reckoned from the second in which the answer is made, in cookies and as a field.
EXPIRES = re.compile(r"(expires=|^Expires: )[^;]*", re.IGNORECASE)


class Answer:
    """Status line, field lines as they were spelt, body, trailers, when bytes came, and the interim
    answers before it."""

    def __init__(self):
        self.status, self.lines, self.body, self.trailers, self.interim = "", [], b"", [], []
        self.first = self.end = 0.0

    @property
    def code(self):
        return int(self.status.split(" ")[1])

    def values(self, name):
        pairs = [line.split(":", 1) for line in self.lines]
        return [value.strip() for own, value in pairs if own.lower() == name.lower()]

    def value(self, name):
        return ", ".join(self.values(name))


def connect(address):
    """`address` is a port, or a port and the authority that signed its certificate."""
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), WAIT)
    port, authority = address
    plain = socket.create_connection(("127.0.0.1", port), WAIT)
    context = ssl.create_default_context(cafile=authority)
    return context.wrap_socket(plain, server_hostname="localhost")


def ask(address, method, target, fields=(), body=b""):
    head = [f"{method} {target} HTTP/1.1", "Host: localhost", *fields, "Connection: close"]
    if body or method in ("POST", "PUT"):
        head.append(f"Content-Length: {len(body)}")
    with connect(address) as stream:
        stream.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return read(stream.makefile("rb"), method)


def lines_of(file):
    lines = []
    while (line := file.readline()) not in (b"\r\n", b""):
        lines.append(line.decode("latin-1").rstrip("\r\n"))
    return lines


def read(file, method):
    answer = Answer()
    while True:
        line = file.readline()
        if not line:
            raise http.client.RemoteDisconnected("the connection ended before an answer")
        answer.status = line.decode("latin-1").rstrip("\r\n")
        answer.lines = lines_of(file)
        if answer.code >= 200 or answer.code == 101:
            break
        answer.interim += [answer.status, *answer.lines]
    if method != "HEAD" and answer.code not in (101, 204, 304):
        for piece in pieces(file, answer):
            answer.first = answer.first or time.monotonic()
            answer.body += piece
    answer.end = time.monotonic()
    return answer


def pieces(file, answer):
    if "chunked" in answer.value("Transfer-Encoding"):
        while size := int(file.readline().split(b";")[0], 16):
            yield file.read(size)
            file.readline()
        answer.trailers = lines_of(file)
    elif length := answer.value("Content-Length"):
        body = file.read(int(length))
        if len(body) != int(length):
            raise http.client.IncompleteRead(body)
        yield body
    else:
        while piece := file.read1(65536):
            yield piece


def comparable(lines):
    """The lines as they are spelt and ordered, without what differs by nature."""
    for line in lines:
        if line.split(":", 1)[0].lower() not in OF_THE_HOP:
            yield EXPIRES.sub(r"\1*", COOKIE_VALUE.sub(r"\1*", line))


def differences(direct, through, body=True):
    """What differs, in words."""
    found = []
    for what, one, two in [
        ("interim answers", direct.interim, through.interim),
        ("status", direct.status, through.status),
        ("field lines", list(comparable(direct.lines)), list(comparable(through.lines))),
        ("trailers", direct.trailers, through.trailers),
        ("body", direct.body if body else b"", through.body if body else b""),
    ]:
        if one != two:
            found.append(f"{what}: {shown(one, two)} without the sidecar, {shown(two, one)} with it")
    return found


def shown(own, other):
    if isinstance(own, list):
        return [line for line in own if line not in other] or f"in the order {own}"
    if isinstance(own, bytes):
        return f"{len(own)} bytes, {own[:60]!r}"
    return own
