#!/usr/bin/env python3
"""What proxies make of messages that are legal, odd and in daily use: each is sent through Spillway,
nginx, HAProxy and, where ENVOY names the program, Envoy, to an application that shows what reached it.
Prints a table in Markdown: `kept`, or what came instead.

    SPILLWAY_BIN=target/debug/spillway python3 benches/passing.py
"""
import os, socket, subprocess, threading, time

import strictness

# What is asked, and what must be found in what reaches the application.
REQUESTS = [
    ("letters beyond ASCII in a path", "GET /café HTTP/1.1\r\nHost: h\r\n\r\n", "GET /café "),
    ("letters beyond ASCII in a query", "GET /?q=café HTTP/1.1\r\nHost: h\r\n\r\n", "?q=café "),
    ("`\"`, `<`, `|`, `^`, `{` in a query", 'GET /?q="<|^{ HTTP/1.1\r\nHost: h\r\n\r\n', '?q="<|^{ '),
    ("`\\` in a path", "GET /a\\b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a\\b "),
    ("`%2F` in a path", "GET /@scope%2Fname HTTP/1.1\r\nHost: h\r\n\r\n", "GET /@scope%2Fname "),
    ("`//` in a path", "GET /a//b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a//b "),
    ("`%zz` in a path", "GET /100%zz HTTP/1.1\r\nHost: h\r\n\r\n", "GET /100%zz "),
    ("`..` in a path", "GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a/../b "),
    ("spelling of a field's name", "GET / HTTP/1.1\r\nHost: h\r\nSOAPAction: 1\r\nX-API-KEY: 2\r\n\r\n", "SOAPAction: 1\r\nX-API-KEY: 2"),
    ("`X-HTTP-Method-Override`", "POST / HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n\r\n", "x-http-method-override: delete"),
    ("a name with `_`", "GET / HTTP/1.1\r\nHost: h\r\nX_User: 1\r\n\r\n", "x_user: 1"),
    ("quotes of a cookie", 'GET / HTTP/1.1\r\nHost: h\r\nCookie: a="b\\054c"\r\n\r\n', 'a="b\\054c"'),
    ("HTTP/1.0 without `Host`", "GET / HTTP/1.0\r\n\r\n", "GET / "),
    ("`OPTIONS *`", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * "),
]
# What the application answers (after its status line), by the path asked, and what the client must find.
ANSWERS = [
    ("spelling of an answer's field", "GET", "200 OK", "X-oDD: 1\r\nContent-Length: 0\r\n\r\n", "X-oDD: 1"),
    ("the words after a status", "GET", "200 Fine by me", "Content-Length: 0\r\n\r\n", "200 Fine by me"),
    ("two equal lengths", "GET", "200 OK", "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", "200"),
    ("two unequal lengths", "GET", "200 OK", "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "200"),
    ("a length beside `chunked`", "GET", "200 OK", "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200"),
    ("the same to HEAD", "HEAD", "200 OK", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "200"),
    ("the same in a 304", "GET", "304 Not Modified", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "304"),
    ("a chunk size with blanks, the body's first", "GET", "200 OK", "Transfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0\r\n\r\n", "hello"),
]


class App:
    """Notes each head; answers with what is due, and closes."""
    def __init__(self):
        self.seen, self.answer = "", ""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, stream):
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                more = stream.recv(65536)
                if not more:
                    return
                data += more
            self.seen = data.decode("utf-8", "replace")
            stream.sendall(self.answer.encode())
            stream.close()
        except OSError:
            pass


def ask(port, request):
    stream = socket.create_connection(("127.0.0.1", port))
    stream.settimeout(2)
    answer = b""
    try:
        stream.sendall(request.encode())
        while data := stream.recv(65536):
            answer += data
            if b"\r\n\r\n" in answer and not request.startswith("GET /answer"):
                break
    except OSError:
        pass
    stream.close()
    return answer.decode("utf-8", "replace")


def status(answer):
    return answer.split(" ")[1] if answer.startswith("HTTP/1.") else "closed without an answer"


def of_request(app, port, request, wanted):
    app.seen, app.answer = "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    answer = ask(port, request)
    if not app.seen:
        return status(answer)
    if wanted in app.seen:
        return "kept"
    if wanted.lower() in app.seen.lower():
        return "kept" if wanted == wanted.lower() else "in lower case"
    line = app.seen.split("\r\n")[0]
    return "removed" if line.startswith(request.split(" HTTP")[0]) else f"`{line.rsplit(' ', 1)[0]}`"


def of_answer(app, port, method, line, rest, wanted):
    app.answer = f"HTTP/1.1 {line}\r\nConnection: close\r\n{rest}"
    answer = ask(port, f"{method} /answer HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    head = answer.split("\r\n\r\n")[0].lower()
    if wanted not in answer:
        return "in lower case" if wanted.lower() in head else status(answer)
    lengths = [one.strip() for one in head.split("\r\n") if one.startswith("content-length")]
    return f"kept, {len(lengths)} length{'' if len(lengths) == 1 else 's'}" if wanted in ("200", "304") else "kept"


def column(command):
    app, port = App(), strictness.free_port()
    process = subprocess.Popen(command(port, app.port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    rows = [of_request(app, port, *case[1:]) for case in REQUESTS]
    rows += [of_answer(app, port, *case[1:]) for case in ANSWERS]
    process.terminate()
    process.wait()
    return rows


def main():
    proxies = {"Spillway": strictness.spillway, "nginx": strictness.nginx, "HAProxy": strictness.haproxy}
    if "ENVOY" in os.environ:
        proxies["Envoy"] = strictness.envoy
    columns = {name: column(command) for name, command in proxies.items()}
    print("| what | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row, case in enumerate(REQUESTS + ANSWERS):
        cells = [rows[row].replace("|", "\\|") for rows in columns.values()]
        print(f"| {case[0].replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
