"""Starlette under uvicorn: streams, event streams, uploads, WebSocket by the websockets package."""
import ssl
import stack
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

UPLOAD = bytes(range(256)) * 8192


def conversation(address):
    secure = None
    url = f"ws://127.0.0.1:{address}/echo"
    if not isinstance(address, int):
        url, secure = f"wss://localhost:{address[0]}/echo", ssl.create_default_context(
            cafile=address[1])
    with connect(url, subprotocols=["echo"], ssl=secure, proxy=None) as socket:
        for text in ["a", "ü" * 50_000, ""]:
            socket.send(text)
            if socket.recv(10) != text:
                return f"{len(text)} characters came back changed"
        socket.send("bye")
        try:
            socket.recv(10)
        except ConnectionClosed as closed:
            end = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else None
            return "" if end == (4321, "as asked") else f"it was closed with {end}"
    return "it was not closed"


def checks(own):
    port = stack.free_port()
    own.run([sys.executable, "-m", "uvicorn", "--app-dir", stack.HERE, "--host", "127.0.0.1",
             "--port", port, "starlette_app:app"], port)
    own.before(port)
    own.same("a stream is the same", "GET", "/stream")
    own.same("an event stream is the same", "GET", "/events", ["Accept: text/event-stream"])
    own.streams("a stream's first byte comes before its end", "/stream")
    own.streams("an event comes before the stream's end", "/events", ["Accept: text/event-stream"])
    own.same("an upload of 2 MiB arrives whole", "POST", "/upload", body=UPLOAD)
    own.same("what is not there is the application's 404", "GET", "/nothing", expect=404)
    for way, address in own.ways():
        own.check(f"a WebSocket speaks and is closed with the application's code, {way}",
                  lambda address=address: conversation(address))


stack.main("Starlette", checks)
