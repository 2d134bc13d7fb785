"""What public scanners for cache poisoning and deception find at the sidecar as it is by default, and at nginx with
`proxy_cache` as the control: both before an origin that shows all that it was asked with, and lets it be stored.

    pip install cpd-sec==0.11.1
    git clone https://github.com/Hackmanit/Web-Cache-Vulnerability-Scanner /tmp/wcvs
    SPILLWAY_BIN=target/release/spillway python3 benches/cache/scanners.py /tmp/wcvs/wordlists

cpd scans by itself. Of Web Cache Vulnerability Scanner the lists are taken: a header or parameter is sent with a
value that nobody else has, and then somebody asks for the same without it. Ends with 1 when the sidecar is poisoned.
"""
import collections, html, http.server, json, os, shutil, socket, subprocess, sys, tempfile, threading, time

ORIGIN, SIDECAR, NGINX = 9431, 9432, 9433
CANARY = "canary7f3a"
PARAMETERS_AT_ONCE = 25
PAGES = ["/", "/account", "/static/app.js", "/search?q=1"]


class Reflecting(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("latin-1")
        # A trace's number is another each time, of the sidecar's own accord: cpd takes that for a page that was changed.
        lines = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() != "traceparent"]
        seen = "\n".join([f"{self.command} {self.path}", *lines, body])
        host = self.headers.get("x-forwarded-host") or self.headers.get("host") or ""
        page = f'<script src="//{html.escape(host)}/app.js"></script><pre>{html.escape(seen)}</pre>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "max-age=300")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Origin(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def start(command):
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sidecar():
    rules = os.path.join(folder, "routes.toml")
    with open(rules, "w") as file:
        file.write('[[route]]\nname = "all"\nmatch = { path = "/{*rest}" }\ncache = { sidecar = "from-origin" }\n')
    return start([os.environ["SPILLWAY_BIN"], "proxy", "--routes", rules, "--listen", f"127.0.0.1:{SIDECAR}",
                  "--admin", "127.0.0.1:0", "--app", f"http://127.0.0.1:{ORIGIN}"])


def nginx():
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = os.path.join(folder, "nginx.conf")
    with open(conf, "w") as file:
        file.write(f"""daemon off; user root; pid {folder}/pid; error_log {folder}/log; events {{ }}
http {{ access_log off; {places} underscores_in_headers on; proxy_cache_path {folder}/stored keys_zone=c:10m;
 server {{ listen 127.0.0.1:{NGINX}; add_header X-Cache $upstream_cache_status;
  location / {{ proxy_pass http://127.0.0.1:{ORIGIN}; proxy_cache c; }} }} }}""")
    return start([os.environ.get("BENCH_NGINX", "nginx"), "-p", folder, "-c", conf])


def wait(port):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing answers on {port}")


def ask(port, target, lines=(), body=""):
    """Status and all that came; a connection each, so that a refusal costs nobody else his answer."""
    head = [f"GET {target} HTTP/1.1", "host: shop.example", "connection: close", *lines]
    if body:
        head += ["content-type: application/x-www-form-urlencoded", f"content-length: {len(body)}"]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        read = b""
        try:
            connection.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode("latin-1"))
            while some := connection.recv(1 << 16):
                read += some
        except OSError:
            pass  # Refused and closed before all was sent.
    return int(read[9:12] or 0), read.decode("latin-1")


def is_poisoned(port, path, query="", lines=(), body=""):
    """Whether somebody who asks for the page sees what another has sent, whether that one was answered at all, and
    whether what the somebody sees was stored."""
    status, _ = ask(port, path + query, lines, body)
    _, seen = ask(port, path)
    return CANARY in seen, status == 200, "; hit" in seen or "X-Cache: HIT" in seen


def headers(port, names):
    results = [is_poisoned(port, f"/header/{number}", lines=[f"{name}: {CANARY}"]) for number, name in enumerate(names)]
    return results, names


def parameters(port, names, how):
    groups = [names[at:at + PARAMETERS_AT_ONCE] for at in range(0, len(names), PARAMETERS_AT_ONCE)]
    results = []
    for number, group in enumerate(groups):
        text, path = "&".join(f"{name}={CANARY}" for name in group), f"/{how}/{number}"
        sent = {"query": {"query": f"?{text}"}, "body": {"body": text}, "cloaked": {"query": f";{text.replace('&', ';')}"}}
        results.append(is_poisoned(port, path, **sent[how]))
    return results, names


def report(what, tried):
    results, names = tried
    poisoned, answered, hits = (sum(column) for column in zip(*results))
    print(f"  {what:20} {len(names):>5} names in {len(results):>5} requests, {answered:>5} answered with 200, {hits:>5} "
          f"then hit by others: {poisoned:>5} poisoned", flush=True)
    return poisoned


def cpd(port):
    """What it finds, by kind."""
    urls, found = (os.path.join(folder, f"{port}.{end}") for end in ("txt", "json"))
    with open(urls, "w") as file:
        file.writelines(f"http://127.0.0.1:{port}{page}\n" for page in PAGES)
    command = ["cpd", "-q", "scan", "-f", urls, "-o", found, "--no-skip-unstable"]
    said = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, HOME=folder))
    if said.returncode != 0:
        sys.exit(f"cpd: {said.stdout}{said.stderr}")
    with open(found) as file:
        findings = json.load(file)
    # One of its tests asks for an address twice, and says of any cache that the second was a hit.
    findings = [one for one in findings if one.get("variant_url") is None or one["variant_url"] != one["original_url"]]
    kinds = collections.Counter(one["vulnerability"] for one in findings)
    print(f"  cpd, {len(PAGES)} pages: {len(findings)} findings {dict(kinds) or ''}")
    return len(findings)


def main():
    lists = sys.argv[1]
    words = lambda name: [line.strip() for line in open(os.path.join(lists, name), encoding="latin-1") if line.strip()]
    names, keys = words("headers"), [word for word in words("parameters") if " " not in word]
    threading.Thread(target=Origin(("127.0.0.1", ORIGIN), Reflecting).serve_forever, daemon=True).start()
    running, bad = [sidecar(), nginx()], 0
    try:
        for name, port in (("Spillway", SIDECAR), ("nginx", NGINX)):
            wait(port)
            print(f"{name}:")
            poisoned = cpd(port) + report("headers", headers(port, names))
            for how in ("query", "body", "cloaked"):
                poisoned += report(f"parameters, {how}", parameters(port, keys, how))
            if port == SIDECAR:
                bad = poisoned
    finally:
        for process in running:
            process.terminate()
            process.wait()
        shutil.rmtree(folder)
    sys.exit(1 if bad else 0)


folder = tempfile.mkdtemp(prefix="spillway-scanners-")
os.chmod(folder, 0o755)
main()
