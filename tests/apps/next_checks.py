"""Next.js, App Router: pages made at build and on demand, RSC, streams, server actions, Chromium."""
import json
import os
import pathlib
import re
import stack
import subprocess
import wire

SCRIPT = re.compile(rb'src="(/_next/static/[^"]+\.js)"')
HIDDEN = re.compile(rb'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?')
RSC = ["RSC: 1", "Next-Router-Prefetch: 1", "Next-Url: /"]
BOUNDARY = "----of-the-form"


def form(address):
    """A form sent without scripts, as by a browser that has them switched off."""
    page = wire.ask(address, "GET", "/form").body
    pairs = [(name, value or b"") for name, value in HIDDEN.findall(page)]
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (BOUNDARY.encode(), name, value) for name, value in [*pairs, (b"name", b"third")])
    return wire.ask(address, "POST", "/form", [
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}"],
        body + b"--%s--\r\n" % BOUNDARY.encode())


def sent(without, address):
    direct, through = form(without), form(address)
    found = wire.differences(direct, through, body=False)
    if direct.value("Location") != "/blog/third":
        found.append(f"the application answers {direct.status} {direct.lines}")
    return found


def visit(address):
    url = f"http://localhost:{address}" if isinstance(address, int) else (
        f"https://localhost:{address[0]}")
    done = subprocess.run(["node", stack.HERE / "next/visit.mjs", url], capture_output=True,
                          text=True, timeout=90)
    return (done.stdout + done.stderr).splitlines()


def navigate(address):
    url = f"http://localhost:{address}"
    done = subprocess.run(["node", stack.HERE / "next/navigate.mjs", url], capture_output=True,
                          text=True, timeout=90)
    return (done.stdout + done.stderr).splitlines()


def checks(own):
    port = stack.free_port()
    folder = pathlib.Path(os.environ["SPILLWAY_NODE_FOLDER"])
    own.run(["node", folder / "node_modules/next/dist/bin/next", "start", folder,
             "--port", port, "--hostname", "127.0.0.1"], port, NEXT_TELEMETRY_DISABLED="1")
    own.before(port)
    script = SCRIPT.search(wire.ask(port, "GET", "/").body)[1].decode()
    own.same("a page made at build is the same", "GET", "/")
    own.same("a page made at build is the same compressed", "GET", "/", ["Accept-Encoding: gzip"])
    own.same("a page of a parameter is the same", "GET", "/blog/first")
    own.same("a script is the same", "GET", script)
    own.same("a script is the same compressed", "GET", script, ["Accept-Encoding: gzip"])
    own.same("HEAD has the fields of GET", "HEAD", script)
    own.same("what is not there is the application's page", "GET", "/nothing", expect=404)
    own.same("components without their checksum are sent to their own address", "GET",
             "/blog/first", RSC, expect=307)
    place = wire.ask(port, "GET", "/blog/first", RSC).value("Location")
    own.same("components are the same at that address", "GET", place, RSC)
    own.streams("the first part of a page comes before its last", "/stream")
    for way, without, address in own.pairs():
        own.check(f"a form without scripts is answered by a redirect, {way}",
                  lambda without=without, address=address: sent(without, address))
    # Without a word of what Next.js reads of a request.
    cached = own.recipe("next", port)
    own.cached("a file is kept and immutable", cached, script, control="immutable")
    own.check("Chromium goes about in cached pages without a loop", lambda: navigate(cached))
    for way, address in own.ways():
        own.check(f"Chromium runs the page, follows a link and sends a form, {way}",
                  lambda address=address: visit(address))

    jobs(own, own.jobs("next", port))


def jobs(own, address):
    """The rules that docs/frameworks.md gives for what is slow."""
    fields = ["Origin: http://localhost", "Cookie: session=ann"]
    own.offloaded_form("a slow form ends where its route handler redirects", address, "/import",
                       fields, b"name=may", lambda answer: answer.value("Location") == "/blog/ann")
    own.offloaded_report("a slow report is fetched when it is done", address, "/api/reports",
                         fields, b'{"years": 3}',
                         lambda answer: json.loads(answer.body) == {"of": "ann", "years": 3})


stack.main("Next.js", checks)
