"""What a cached answer costs: the sidecar beside nginx, HAProxy and Varnish, one core each, in one run.

Run by `cargo xtask bench cache`. Each proxy is pinned to core 0, the origin (nginx) and the load (wrk)
to core 1. CPU time of the proxy's processes divided by the requests it served is the figure that holds
when the machine is noisy; rounds take turns, and the median counts.
"""
import os, re, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.request

ORIGIN = 9401
SECONDS, ROUNDS, CONNECTIONS = 4, 3, 64
SIZES = {"1k": 1024, "100k": 102400}
HERD = 1000
# Paths of nginx, haproxy, varnishd and wrk.
path_of = lambda name: os.environ[f"BENCH_{name.upper()}"]
folder = tempfile.mkdtemp(prefix="spillway-bench-")
os.chmod(folder, 0o755)


def write(name, text):
    path = os.path.join(folder, name)
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
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; {places} {rest} }}
""")


def origin():
    for name, size in SIZES.items():
        write(name, "x" * size)
    conf = nginx("origin", f"""
 sendfile on; open_file_cache max=100;
 server {{ listen 127.0.0.1:{ORIGIN} backlog=4096; root {folder};
  location / {{ add_header Cache-Control "public, max-age=31536000"; }} }}""")
    return start([path_of("nginx"), "-p", folder, "-c", conf], 1)


def nginx_cache(port):
    conf = nginx("cache", f"""
 sendfile on; tcp_nodelay on; open_file_cache max=1000;
 proxy_cache_path {folder}/stored keys_zone=c:10m max_size=256m;
 upstream o {{ server 127.0.0.1:{ORIGIN}; keepalive 256; }}
 server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_cache c; proxy_cache_lock on; }} }}""")
    return [path_of("nginx"), "-p", folder, "-c", conf]


def haproxy(port):
    conf = write("haproxy.cfg", f"""
global
  nbthread 1
  maxconn 8000
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
  http-request cache-use c
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
""")
    return [path_of("varnishd"), "-F", "-n", f"{folder}/varnish", "-a", f"127.0.0.1:{port}", "-f", vcl,
            "-s", "malloc,256m", "-p", "thread_pools=1"]


def spillway(port):
    rules = write("routes.toml", """
[[route]]
name  = "all"
match = { path = "/{*rest}" }
cache = { sidecar = "from-origin" }
""")
    return [os.environ["SPILLWAY_BIN"], "proxy", "--routes", rules, "--threads", "1",
            "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0",
            "--app", f"http://127.0.0.1:{ORIGIN}", "--cache-mib", "256"]


PROXIES = {"spillway": (spillway, 9410), "nginx": (nginx_cache, 9411),
           "HAProxy": (haproxy, 9412), "Varnish": (varnish, 9413)}


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


def wait(port):
    for _ in range(100):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/1k", timeout=1).read()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing answers on {port}; see {folder}/log")


def wrk(port, path):
    """Requests served, requests a second, the 99th percentile."""
    command = ["taskset", "-c", "1", path_of("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency",
               f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        sys.exit(f"{path} on {port}: {said}")
    take = lambda pattern: re.search(pattern, said).group(1)
    return int(take(r"(\d+) requests in")), float(take(r"Requests/sec:\s+([\d.]+)")), take(r"99%\s+(\S+)")


def herd(port, pid, number):
    """CPU microseconds per request when a thousand ask for one new answer at once."""
    url = f"http://127.0.0.1:{port}/1k?new={number}"
    gate = threading.Barrier(50)

    def ask():
        gate.wait()
        for _ in range(HERD // 50):
            urllib.request.urlopen(url, timeout=10).read()

    before = cpu(pid)
    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1e6 * (cpu(pid) - before) / HERD


def main():
    running = [origin()]
    results, pids = {name: {} for name in PROXIES}, {}
    try:
        for name, (command, port) in PROXIES.items():
            process = start(command(port), 0)
            running.append(process)
            pids[name] = process.pid
            wait(port)
            results[name]["idle"] = memory(process.pid)
        for turn in range(ROUNDS):
            for size in SIZES:
                for name, (_, port) in PROXIES.items():
                    if turn == 0:
                        wrk(port, f"/{size}")
                    before = cpu(pids[name])
                    served, rate, p99 = wrk(port, f"/{size}")
                    figure = (1e6 * (cpu(pids[name]) - before) / served, rate, p99)
                    results[name].setdefault(size, []).append(figure)
            for name, (_, port) in PROXIES.items():
                results[name].setdefault("herd", []).append(herd(port, pids[name], turn))
        print(f"{'cache':10} {'hit 1 KiB':>10} {'hit 100 KiB':>12} {'new answer':>11}   CPU us/request; "
              f"{'req/s 1 KiB':>11} {'p99':>8} {'PSS MiB':>14}")
        for name, result in results.items():
            cost = lambda size: statistics.median(figure[0] for figure in result[size])
            rate = statistics.median(figure[1] for figure in result["1k"])
            pss = f"{result['idle']:.1f} / {memory(pids[name]):.1f}"
            print(f"{name:10} {cost('1k'):>10.1f} {cost('100k'):>12.1f} "
                  f"{statistics.median(result['herd']):>11.1f} {'':17} {rate:>11.0f} "
                  f"{result['1k'][-1][2]:>8} {pss:>14}")
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            process.wait()


main()
