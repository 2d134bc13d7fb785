"""The sidecar and its peers as processes, one core each, before one origin. For the benchmarks beside it.

Each proxy is pinned to core 0, the origin (nginx) and the load to core 1. CPU time of the proxy's processes
divided by the requests it served is the figure that holds when the machine is noisy; rounds take turns, and
the median counts. `/cached/…` may be stored by all of them, `/pass/…` by none. The origin writes a head, then a
body, as nginx does that sends files; below `/pass/at-once/` both together, as most application servers do.

Programs are named by the environment: BENCH_NGINX, BENCH_HAPROXY, BENCH_VARNISHD, BENCH_WRK and BENCH_LOAD must
be there; a peer without BENCH_ENVOY, BENCH_PINGORA or BENCH_FLOOR is left out.
"""
import json, os, re, resource, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

ORIGIN = 9401
SIZES = {"1k": 1024, "100k": 102400}
# Ten thousand idle clients are held. HAProxy wants two open files for each connection that it may have, so
# where fewer may be open, fewer are held.
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
CONNECTIONS_MAX = min(11000, FILES // 2 - 100)
IDLE = min(10000, CONNECTIONS_MAX - 500)
folder = tempfile.mkdtemp(prefix="spillway-bench-")
os.chmod(folder, 0o755)


def path_of(name):
    return os.environ[f"BENCH_{name.upper()}"]


def write(name, text):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


def start(command, core):
    log = open(os.path.join(folder, "log"), "ab")
    pinned = ["taskset", "-c", str(core), *command]
    return subprocess.Popen(pinned, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def nginx(name, rest):
    places = " ".join(f"{kind}_temp_path {folder}/{name}-{kind};"
                      for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return write(f"{name}.conf", f"""
daemon off; user root; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections {2 * CONNECTIONS_MAX}; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; sendfile on; tcp_nodelay on;
 {places} {rest} }}
""")


def origin():
    for name, size in SIZES.items():
        write(f"cached/{name}", "x" * size)
        write(f"pass/{name}", "x" * size)
        write(f"pass/at-once/{name}", "x" * size)
    # Slow enough that a thousand clients miss it together.
    write("slow/10k", "x" * 10240)
    conf = nginx("origin", f"""
 open_file_cache max=100;
 server {{ listen 127.0.0.1:{ORIGIN} backlog=4096; root {folder};
  location /status {{ stub_status; }}
  location /slow/ {{ limit_rate 20k; add_header Cache-Control "public, max-age=31536000"; }}
  location /pass/ {{ add_header Cache-Control "no-store"; }}
  location /pass/at-once/ {{ sendfile off; add_header Cache-Control "no-store"; }}
  location / {{ add_header Cache-Control "public, max-age=31536000"; }} }}""")
    return start([path_of("nginx"), "-p", folder, "-c", conf], 1)


def origin_requests():
    """How many the origin has been asked so far; asking for it counts, too."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{ORIGIN}/status", timeout=5).read().decode()
    return int(page.splitlines()[2].split()[2])


def nginx_cache(port):
    conf = nginx("cache", f"""
 open_file_cache max=1000; proxy_cache_path {folder}/stored keys_zone=c:10m max_size=256m;
 upstream o {{ server 127.0.0.1:{ORIGIN}; keepalive 256; keepalive_requests 1000000000; }}
 proxy_http_version 1.1; proxy_set_header Connection "";
 server {{ listen 127.0.0.1:{port} backlog=4096;
  location /pass/ {{ proxy_pass http://o; }}
  location / {{ proxy_pass http://o; proxy_cache c; proxy_cache_lock on; }} }}""")
    return [path_of("nginx"), "-p", folder, "-c", conf]


def haproxy(port):
    conf = write("haproxy.cfg", f"""
global
  nbthread 1
  maxconn {CONNECTIONS_MAX}
cache c
  total-max-size 256
  max-object-size 200000
  max-age 3600
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
frontend f
  bind 127.0.0.1:{port} backlog 4096
  http-request cache-use c unless {{ path_beg /pass/ }}
  http-response cache-store c
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{ORIGIN}
""")
    return [path_of("haproxy"), "-f", conf]


def varnish(port):
    vcl = write("v.vcl", f"""vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{ORIGIN}"; }}
sub vcl_recv {{ if (req.url ~ "^/pass/") {{ return (pass); }} }}
""")
    return [path_of("varnishd"), "-F", "-n", f"{folder}/varnish", "-a", f"127.0.0.1:{port}", "-f", vcl,
            "-s", "malloc,256m", "-p", "thread_pools=1", "-p", "timeout_idle=3600"]


def spillway(port):
    return spillway_with(port, 0, 256, threads=1)


def spillway_with(port, admin, cache_mib, threads):
    rules = write("routes.toml", """
[[route]]
name  = "pass"
match = { path = "/pass/{*rest}" }

[[route]]
name  = "all"
match = { path = "/{*rest}" }
cache = { sidecar = "from-origin" }
""")
    return [os.environ["SPILLWAY_BIN"], "proxy", "--routes", rules, "--threads", str(threads),
            "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
            "--app", f"http://127.0.0.1:{ORIGIN}", "--cache-mib", str(cache_mib)]


def envoy(port):
    """Its cache filter, which its authors call unfit for production, as a peer of the same function."""
    api = "type.googleapis.com/envoy.extensions"
    simple = {"@type": f"{api}.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig"}
    address = lambda number: {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    manager = {
        "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "i", "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "o"}}]}]},
        "http_filters": [
            {"name": "cache", "typed_config": {
                "@type": f"{api}.filters.http.cache.v3.CacheConfig", "typed_config": simple}},
            {"name": "router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}}],
    }
    endpoint = {"endpoint": {"address": address(ORIGIN)}}
    conf = write("envoy.json", json.dumps({"static_resources": {
        "listeners": [{"address": address(port), "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]}]}],
        "clusters": [{"name": "o", "type": "STATIC", "load_assignment": {
            "cluster_name": "o", "endpoints": [{"lb_endpoints": [endpoint]}]}}],
    }}))
    return [path_of("envoy"), "-c", conf, "--concurrency", "1", "--base-id", "77", "-l", "error"]


def named(variable):
    """A proxy of this repository's benchmarks, which takes its own port and the origin's."""
    return lambda port: [path_of(variable), str(port), str(ORIGIN)]


PROXIES = {"spillway": (spillway, 9410), "nginx": (nginx_cache, 9411),
           "HAProxy": (haproxy, 9412), "Varnish": (varnish, 9413)}
OPTIONAL = {"ENVOY": ("Envoy", envoy, 9414), "PINGORA": ("pingora", named("pingora"), 9415),
            "FLOOR": ("bare hyper", named("floor"), 9416)}
for variable, (name, command, port) in OPTIONAL.items():
    if os.environ.get(f"BENCH_{variable}"):
        PROXIES[name] = (command, port)


def family(pid):
    """The process and its descendants."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                stat = file.read()
        except OSError:
            continue
        parent = int(stat[stat.rindex(")") + 2:].split()[1])
        children.setdefault(parent, []).append(int(entry))
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def cpu(pid):
    """Seconds that all threads of the family have run."""
    total = 0
    for own in family(pid):
        try:
            for thread in os.listdir(f"/proc/{own}/task"):
                with open(f"/proc/{own}/task/{thread}/schedstat") as file:
                    total += int(file.read().split()[0])
        except OSError:
            continue
    return total / 1e9


def memory(pid):
    """MiB, what is shared divided among those who share it."""
    total = 0
    for own in family(pid):
        try:
            with open(f"/proc/{own}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def listens(port):
    """Waits until somebody listens there."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)
    sys.exit(f"nobody listens on {port}")


def wait(port):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/cached/1k", timeout=1).read()
        except OSError:
            time.sleep(0.01)
    with open(os.path.join(folder, "log")) as log:
        sys.exit(f"nothing answers on {port}: {log.read()[-2000:]}")


def wrk(port, path, seconds, connections):
    """Requests served, requests a second, the 99th percentile."""
    command = ["taskset", "-c", "1", path_of("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
               f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        sys.exit(f"{path} on {port}: {said}")
    take = lambda pattern: re.search(pattern, said, re.MULTILINE).group(1)
    return int(take(r"(\d+) requests in")), float(take(r"Requests/sec:\s+([\d.]+)")), take(r"^ +99% +(\S+)")


def load(mode, port, path, *more):
    """The generator of this repository: what it printed."""
    command = ["taskset", "-c", "1", path_of("load"), mode, f"127.0.0.1:{port}", path, *map(str, more)]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode != 0:
        sys.exit(f"{mode} {path} on {port}: {said.stderr}")
    return json.loads(said.stdout)


def stop(running, keep=False):
    """Ends processes; and what they wrote goes, unless others need the folder."""
    for process in running:
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    for process in running:
        process.wait()
    if not keep:
        shutil.rmtree(folder)
