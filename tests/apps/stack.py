"""An application, the sidecars before it, the ingress before those, and the list of checks."""
import argparse
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import wire

HERE = pathlib.Path(__file__).parent
START = 30

# nginx orders and spells some fields itself. So what comes through it and the sidecar is compared
# with what comes through the same nginx straight from the application.
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $upgrade {{ default upgrade; '' ''; }}
{servers}
}}
"""

SERVER = """
  server {{
    listen 127.0.0.1:{port} ssl{h2};
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location / {{ {location} }}
  }}
"""

LOCATIONS = {
    "http": """
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
    """,
    "h2c": "grpc_pass grpc://127.0.0.1:{upstream}; grpc_set_header Host $http_host;",
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Stack:
    def __init__(self, name):
        parser = argparse.ArgumentParser()
        parser.add_argument("--spillway", required=True)
        parser.add_argument("--nginx", required=True)
        parser.add_argument("--openssl", required=True)
        options = parser.parse_args()
        self.spillway, self.nginx, self.openssl = options.spillway, options.nginx, options.openssl
        self.name, self.passed, self.failed, self.children = name, 0, 0, []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"spillway-{name}-"))

    def run(self, command, port, **environment):
        """Starts a process and waits until it listens."""
        log = self.folder / f"{len(self.children)}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [str(part) for part in command], stdout=output, stderr=output,
                env={**os.environ, **environment}, cwd=self.folder)
        self.children.append(child)
        end = time.monotonic() + START
        while time.monotonic() < end and child.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise SystemExit(f"{command[0]} does not listen on {port}:\n{log.read_text()}")

    def sidecar(self, app, trusted, rules=""):
        """Without rules all passes."""
        port, admin = free_port(), free_port()
        routes = self.folder / f"routes-{port}.toml"
        routes.write_text(rules)
        self.run([self.spillway, "proxy", "--listen", f"127.0.0.1:{port}", "--app", app,
                  "--admin", f"127.0.0.1:{admin}", "--routes", routes,
                  "--trusted-proxy", trusted], port)
        return port

    def before(self, app, scheme="http"):
        """An application, with and without the sidecar, each plain and behind an ingress."""
        self.direct = app
        self.plain = self.sidecar(f"{scheme}://127.0.0.1:{app}", "none")
        self.certificate()
        sidecar = self.sidecar(f"{scheme}://127.0.0.1:{app}", "private")
        port, control = free_port(), free_port()
        servers = "".join(
            SERVER.format(folder=self.folder, port=own, h2=" http2" if scheme == "h2c" else "",
                          location=LOCATIONS[scheme].format(upstream=upstream))
            for own, upstream in [(port, sidecar), (control, app)])
        text = NGINX.format(folder=self.folder, servers=servers)
        (self.folder / "nginx.conf").write_text(text)
        self.run([self.nginx, "-c", self.folder / "nginx.conf", "-p", self.folder], port)
        authority = str(self.folder / "cert.pem")
        self.ingress, self.control = (port, authority), (control, authority)

    def certificate(self):
        command = [self.openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt",
                   "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                   "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem",
                   "-out", "cert.pem"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def check(self, name, fault):
        """`fault` says what differs, or calls for it; nothing is right."""
        try:
            found = fault() if callable(fault) else fault
        except Exception as error:  # Whatever a client reports is this check's result.
            found = f"{type(error).__name__}: {error}"
        self.passed, self.failed = self.passed + (not found), self.failed + bool(found)
        print(f"{'FAILED' if found else 'ok'}: {self.name}: {name}", flush=True)
        for line in [found] if isinstance(found, str) and found else found:
            print(f"    {line}", flush=True)

    def same(self, name, method, target, fields=(), body=b"", expect=200, ingress=True, **how):
        """The same answer with and without the sidecar, with the status that it ought to have."""
        for way, without, address in self.pairs()[:1 + ingress]:
            def fault(without=without, address=address):
                direct = wire.ask(without, method, target, fields, body)
                through = wire.ask(address, method, target, fields, body)
                found = wire.differences(direct, through, **how)
                if direct.code != expect:
                    found.append(f"the application itself answers {direct.status}")
                return found
            self.check(f"{name}, {way}", fault)

    def pairs(self):
        """How it is asked, without and with the sidecar."""
        return [("plain", self.direct, self.plain),
                ("behind the ingress", self.control, self.ingress)]

    def ways(self):
        return [(way, address) for way, _, address in self.pairs()]

    def cached_by_scheme(self, app, name, target, path, right):
        """A route that caches, behind a proxy that says how the client came. `right` is told each
        answer and its scheme, and says whether the application saw that scheme."""
        rules = f"""
            [[route]]
            name = "cached"
            match = {{ path = "{path}", methods = ["GET"] }}
            cache = {{ sidecar = "60s", ignore_cookies = true }}
        """
        address = self.sidecar(f"http://127.0.0.1:{app}", "private", rules)

        def fault():
            found = []
            for scheme in ["https", "http", "https"]:
                answer = wire.ask(address, "GET", target, [f"X-Forwarded-Proto: {scheme}"])
                if not right(answer, scheme):
                    found.append(f"{scheme} is answered {answer.status} {answer.lines}")
            if "; hit" not in answer.value("Cache-Status"):
                found.append(f"nothing was stored: {answer.value('Cache-Status')}")
            return found
        self.check(name, fault)

    def recipe(self, name, app):
        """Behind the rules file that docs/frameworks.md gives for the framework."""
        rules = (HERE / f"../../examples/frameworks/{name}.toml").read_text()
        return self.sidecar(f"http://127.0.0.1:{app}", "private", rules)

    def jobs(self, name, app):
        """The same for its slow forms and reports: a sidecar with a queue, and a consumer."""
        rules = self.folder / f"{name}-jobs.toml"
        rules.write_text((HERE / f"../../examples/frameworks/{name}-jobs.toml").read_text())
        files = f"file:{self.folder / 'jobs'}"
        common = ["--app", f"http://127.0.0.1:{app}", "--routes", rules, "--queue",
                  f"jobs={files}", "--results", files, "--spool", self.folder / "spool"]
        secret = {"SPILLWAY_SECRET": "of the applications under test only"}
        port, admins = free_port(), [free_port(), free_port()]
        self.run([self.spillway, "proxy", "--listen", f"127.0.0.1:{port}", "--admin",
                  f"127.0.0.1:{admins[0]}", "--trusted-proxy", "private", *common], port, **secret)
        self.run([self.spillway, "consume", "--admin", f"127.0.0.1:{admins[1]}", *common],
                 admins[1], **secret)
        return port

    def offloaded_form(self, name, address, target, fields, body, right):
        """A form as a browser sends it, to the end of its job's page. `right` is told that answer."""
        def fault():
            accepted = wire.ask(address, "POST", target, [
                *fields, "Accept: text/html", "Content-Type: application/x-www-form-urlencoded"],
                body)
            page = accepted.value("Location")
            if accepted.code != 303 or "spillway-job=" not in page:
                return f"it is answered {accepted.status} {accepted.body.decode()}"
            end = time.monotonic() + START
            while time.monotonic() < end:
                answer = wire.ask(address, "GET", page, [*fields, "Accept: text/html"])
                if answer.code != 200 or b"<progress" not in answer.body:
                    found = right(answer)
                    return "" if found else f"it ends at {answer.status} {answer.lines}"
                time.sleep(0.1)
            return "its page still waits"
        self.check(name, fault)

    def offloaded_report(self, name, address, target, fields, body, right):
        """A report as a script asks for it, to its result. `right` is told that answer."""
        def fault():
            fields_of_json = [*fields, "Accept: application/json", "Content-Type: application/json"]
            accepted = wire.ask(address, "POST", target, fields_of_json, body)
            if accepted.code != 202:
                return f"it is answered {accepted.status} {accepted.body.decode()}"
            job = accepted.value("Location")
            status = wire.ask(address, "GET", job, [*fields_of_json, "Prefer: wait=20"])
            if b'"status":"succeeded"' not in status.body:
                return f"its job has ended as {status.body.decode()}"
            answer = wire.ask(address, "GET", f"{job}/result", fields_of_json)
            return "" if right(answer) else f"the result is {answer.status} {answer.body.decode()}"
        self.check(name, fault)

    def cached(self, name, address, target, fields=(), says="; hit", control=None):
        """What the second of two requests is told by the cache, and of it by `Cache-Control`."""
        def fault():
            wire.ask(address, "GET", target, fields)
            answer = wire.ask(address, "GET", target, fields)
            status, words = answer.value("Cache-Status"), answer.value("Cache-Control")
            found = [] if answer.code == 200 and says in status else [f"{answer.status} {status}"]
            return found + ([f"it says {words}"] if control and control not in words else [])
        self.check(name, fault)

    def streams(self, name, target, fields=()):
        """The first byte must not wait for the end."""
        for way, address in self.ways():
            def fault(address=address):
                answer = wire.ask(address, "GET", target, fields)
                early = answer.end - answer.first
                return "" if early > 0.2 else f"the first byte came {early:.3f} s before the end"
            self.check(f"{name}, {way}", fault)

    def finish(self):
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        print(f"{self.passed} passed, {self.failed} failed", flush=True)


def main(name, checks):
    stack = Stack(name)
    try:
        checks(stack)
    finally:
        stack.finish()
    sys.exit(stack.failed > 0)
