"""An application that is asked for three times what it can do, alone and behind proxies. Run by
`cargo xtask bench overload`. Prints a table in Markdown.

The application is gunicorn with synchronous workers, each request takes one of them for a while. Clients give
up after a second. What counts is how many answers come in time, of what the application can do at all.
"""
import json, os, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from proxies import folder, listens, nginx, path_of, start, stop, write

APP = 9440
# Workers, milliseconds of work.
APPLICATIONS = [(2, 50), (8, 20), (16, 100)]
FACTOR, PATIENCE_MS = 3, 1000
QUIET_SECONDS, SECONDS = 5, 20


def gunicorn(workers, work):
    command = [path_of("python"), "-m", "gunicorn", "--workers", str(workers), "--bind", f"127.0.0.1:{APP}",
               "--backlog", "2048", "--log-level", "error", "--chdir", os.path.dirname(os.path.abspath(__file__)), "app:app"]
    os.environ["WORK_MS"] = str(work)
    return start(command, 1)


def spillway(limit):
    rules = write(f"{limit}.toml", f"""
{f'[overload]{chr(10)}concurrency = "{limit}"' if limit != "none" else ""}
[[route]]
name  = "all"
match = {{ path = "/{{*rest}}" }}
timeout = "60s"
""")
    return lambda port: [os.environ["SPILLWAY_BIN"], "proxy", "--routes", rules, "--threads", "1", "--listen",
                         f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", "--app", f"http://127.0.0.1:{APP}"]


def plain_nginx(port):
    conf = nginx("plain", f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://127.0.0.1:{APP}; }} }}")
    return [path_of("nginx"), "-p", folder, "-c", conf]


def haproxy(workers):
    """Told by hand how many workers there are, and how long a request may wait for one."""
    return lambda port: [path_of("haproxy"), "-f", write("queue.cfg", f"""
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  timeout queue 500ms
listen l
  bind 127.0.0.1:{port} backlog 4096
  server s 127.0.0.1:{APP} maxconn {workers}
""")]


def envoy(port):
    api = "type.googleapis.com/envoy.extensions"
    address = lambda number: {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    # As its documentation has it, but for the percentile, which would take all requests for slow where each takes
    # as long as the other.
    controller = {"sample_aggregate_percentile": {"value": 90},
                  "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
                  "min_rtt_calc_params": {"jitter": {"value": 10}, "interval": "60s", "request_count": 50}}
    filters = [{"name": "adaptive_concurrency", "typed_config": {
                   "@type": f"{api}.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
                   "gradient_controller_config": controller,
                   "enabled": {"default_value": True, "runtime_key": "on"}}},
               {"name": "router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}}]
    manager = {"@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "i",
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"cluster": "o", "timeout": "60s"}}]}]},
               "http_filters": filters}
    unlimited = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000}
    conf = write("adaptive.json", json.dumps({"static_resources": {
        "listeners": [{"address": address(port), "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]}]}],
        "clusters": [{"name": "o", "type": "STATIC", "circuit_breakers": {"thresholds": [unlimited]},
                      "load_assignment": {"cluster_name": "o", "endpoints": [
                          {"lb_endpoints": [{"endpoint": {"address": address(APP)}}]}]}}]}}))
    return [path_of("envoy"), "-c", conf, "--concurrency", "1", "--base-id", "78", "-l", "error"]


def ask(port, *numbers):
    """The clients of this repository: what they printed."""
    command = ["taskset", "-c", "1", path_of("flood"), f"127.0.0.1:{port}", "/", *map(str, numbers)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(name, command, port, workers, work):
    running = [gunicorn(workers, work)]
    try:
        listens(APP)
        if command:
            running.append(start(command(port), 0))
            listens(port)
        # What it can do: nobody waits for another.
        able = ask(port, workers, 4)["per_second"]
        if able == 0:
            sys.exit(f"{name}: the application answers nothing; is another one left on {APP}?")
        ask(port, 0.7 * able, QUIET_SECONDS, PATIENCE_MS)
        told = ask(port, FACTOR * able, SECONDS, PATIENCE_MS)
        share = 100 * told["in_time"] / SECONDS / able
        print(f"| {workers} workers, {work} ms | {name} | {able:.0f} | {share:.0f} % | {told['p50'] / 1000:.0f} | "
              f"{told['p99'] / 1000:.0f} | {told['refused']:,} | {told['given_up']:,} |", flush=True)
    finally:
        stop(running, keep=True)


def main():
    print(f"{FACTOR} times what it can do for {SECONDS} s; clients give up after {PATIENCE_MS} ms.\n")
    print("| application | in front of it | answers a second it can give | in time, of these | p50 in time, ms | p99 | refused | given up |\n"
          "|---|---|---|---|---|---|---|---|")
    for workers, work in APPLICATIONS:
        fronts = [("nothing", None), ("nginx", plain_nginx), ("spillway", spillway("none")),
                  ("spillway, `adaptive`", spillway("adaptive")), ("HAProxy, `maxconn` by hand", haproxy(workers))]
        if os.environ.get("BENCH_ENVOY"):
            fronts.append(("Envoy, adaptive concurrency", envoy))
        for number, (name, command) in enumerate(fronts):
            measure(name, command, APP + number, workers, work)


try:
    main()
finally:
    stop([])
