#!/usr/bin/env python3
"""What proxies do with requests that can be read in two ways: the corpus of http1/tests/peers/corpus.rs,
sent to Spillway, nginx, HAProxy and, where ENVOY names the program, Envoy, with an application behind
each that notes what reaches it. Prints a table in Markdown.

    SPILLWAY_BIN=target/debug/spillway python3 benches/strictness.py
"""
import ast, os, re, shutil, socket, subprocess, tempfile, threading, time

CORPUS = os.path.join(os.path.dirname(__file__), "..", "http1", "tests", "peers", "corpus.rs")
FOLDER = tempfile.mkdtemp(prefix="strictness-")
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def cases():
    """The refused heads, and the refused bodies behind one head."""
    with open(CORPUS) as file:
        text = file.read()
    def section(name):
        body = text[text.index(f"const {name}"):]
        found = re.findall(r'\(\s*"([^"]+)",\s*(b"(?:[^"\\]|\\.)*"),\s*"([^"]+)",?\s*\)', body[:body.index("];")])
        return [(what, ast.literal_eval(bytes_), why) for what, bytes_, why in found]
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused = [(what, request, why.split()[1]) for what, request, why in section("REFUSED")]
    return refused + [(what, head + body, why) for what, body, why in section("BROKEN_BODIES")]


class App:
    """Answers everything with 200 and notes what it was sent."""
    def __init__(self):
        self.seen = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, stream):
        try:
            while data := stream.recv(65536):
                self.seen += data
                if b"\r\n\r\n" in data or data.endswith(b"0\r\n\r\n"):
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def spillway(port, app):
    rules = write("routes.toml", "")
    return [os.environ["SPILLWAY_BIN"], "proxy", "--routes", rules, "--listen", f"127.0.0.1:{port}",
            "--admin", "127.0.0.1:0", "--app", f"http://127.0.0.1:{app}"]


def nginx(port, app):
    temporary = "".join(f"{kind}_temp_path {FOLDER}/{kind};" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return ["nginx", "-p", FOLDER, "-c", write("nginx.conf", f"""daemon off; user root; pid {FOLDER}/nginx.pid;
error_log /dev/null; events {{}}
http {{ access_log off; {temporary} proxy_http_version 1.1; proxy_request_buffering off;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{app}; }} }} }}
""")]


def haproxy(port, app):
    return ["haproxy", "-f", write("haproxy.cfg", f"""defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{app}
""")]


def envoy(port, app):
    return [os.environ["ENVOY"], "-l", "off", "--base-id", "91", "-c", write("envoy.yaml", f"""static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: i
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: a}}}}]}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - {{name: a, type: STATIC, load_assignment: {{cluster_name: a, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {app}}}}}}}}}]}}]}}}}
""")]


def ask(port, request):
    """The status of the first answer, and how many answers there were."""
    stream = socket.create_connection(("127.0.0.1", port))
    stream.settimeout(1.5)
    answer = b""
    try:
        stream.sendall(request + SMUGGLED)
        while data := stream.recv(65536):
            answer += data
    except OSError:
        pass
    stream.close()
    statuses = re.findall(rb"HTTP/1\.[01] (\d\d\d)", answer)
    return statuses[0].decode() if statuses else "closed", len(statuses)


def main():
    proxies = {"Spillway": spillway, "nginx": nginx, "HAProxy": haproxy}
    if "ENVOY" in os.environ:
        proxies["Envoy"] = envoy
    columns, processes = {}, []
    for name, command in proxies.items():
        app, port = App(), free_port()
        processes.append(subprocess.Popen(command(port, app.port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        column = []
        for _, request, _ in cases():
            app.seen = b""
            status, answers = ask(port, request)
            passed = "" if not app.seen else ", reaches the app"
            column.append(f"{status}{passed}{' and a second request' if answers > 1 else ''}")
        columns[name] = column
    print("| what | reason | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for row, (what, _, why) in enumerate(cases()):
        print(f"| {what} | `{why}` | " + " | ".join(column[row] for column in columns.values()) + " |")
    for process in processes:
        process.terminate()
    shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
