"""What the memory store takes: the process beside its budget. Run by `cargo xtask bench cache`.

For each size of answer a sidecar is filled until the store has let go as many answers as it holds, and its growth
since it was idle is compared with the budget and with what it counts (`spillway_cache_size_bytes`). Then everything
is purged. Ends with 1 when a full store takes more than the budget or other than it counts by more than LIMIT.
"""
import json, os, re, socket, sys, time, urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from proxies import ORIGIN, folder, memory, nginx, path_of, spillway_with, start, stop, wait, write

BUDGET_MIB, SHARDS, LIMIT = 256, 16, 0.05
PORT, ADMIN = 9410, 9420
# By number of bytes; the last stands for a store of all sizes, each as often as every other.
SIZES = {"10 B": [10], "100 B": [100], "1 KiB": [1 << 10], "10 KiB": [10 << 10], "100 KiB": [100 << 10],
         "300 KiB": [300 << 10], "1 MiB": [1 << 20], "mixed": [int(10 * 1.2 ** step) for step in range(64)]}
# As applications send them: the fields of an answer count, too.
FIELDS = {"Cache-Control": "public, max-age=86400", "Content-Type": "application/json; charset=utf-8",
          "X-Request-Id": "8f14e45f-ceea-467f-a0e6-9a3a3ff0d3ab", "Vary": "Accept-Encoding"}
# Requests that are under way on one connection, and connections, so that every thread of the sidecar stores.
BATCH, CONNECTIONS = 64, 8
SETTLED = 3


def origin():
    for sizes in SIZES.values():
        for size in sizes:
            write(f"sizes/{size}", "x" * size)
    fields = "".join(f'add_header {name} "{value}"; ' for name, value in FIELDS.items())
    conf = nginx("origin", f"""
 default_type ""; etag on; open_file_cache max=1000;
 server {{ listen 127.0.0.1:{ORIGIN} backlog=4096; root {folder}/sizes;
  location = /cached/1k {{ return 200 "up"; }}
  location / {{ rewrite ^/[0-9]+(/[0-9]+)$ $1 break; {fields} }} }}""")
    return start([path_of("nginx"), "-p", folder, "-c", conf], 1)


def metric(name):
    page = urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5).read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


def counted():
    return metric("spillway_cache_size_bytes") / (1 << 20)


class Filler:
    """Asks for one answer after the other, each once."""

    def __init__(self, sizes):
        self.sizes, self.number = sizes, 0
        self.sockets = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(CONNECTIONS)]

    def batch(self, connection):
        wanted = 0
        asked = []
        for _ in range(BATCH):
            size = self.sizes[self.number % len(self.sizes)]
            asked.append(f"GET /{self.number}/{size} HTTP/1.1\r\nhost: shop.example\r\n\r\n")
            self.number, wanted = self.number + 1, wanted + size
        connection.sendall("".join(asked).encode())
        self.read(connection, len(asked))

    def read(self, connection, answers):
        """Lengths are read, bodies are not looked into."""
        buffer = bytearray()
        for _ in range(answers):
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                buffer += self.some(connection)
            head = bytes(buffer[:end])
            if not head.startswith(b"HTTP/1.1 200") or b"; stored" not in head:
                sys.exit(f"not stored: {head.decode()}")
            left = end + 4 + int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
            while len(buffer) < left:
                buffer += self.some(connection)
            del buffer[:left]

    def some(self, connection):
        read = connection.recv(1 << 20)
        if not read:
            sys.exit("the sidecar hung up")
        return read

    def until(self, is_enough):
        while not is_enough():
            for connection in self.sockets:
                self.batch(connection)


def purge():
    request = urllib.request.Request(f"http://127.0.0.1:{ADMIN}/purge", json.dumps({"all": True}).encode(), {"Content-Type": "application/json", "X-Spillway-Admin": "1"})
    urllib.request.urlopen(request, timeout=60).read()


def measure(name, sizes):
    """Growth and count when half full and when full, and the growth that stays after a purge; in MiB."""
    command = spillway_with(PORT, ADMIN, BUDGET_MIB, threads=2)
    sidecar = start(command, "0,1")
    try:
        wait(PORT)
        filler = Filler(sizes)
        idle = memory(sidecar.pid)
        growth = lambda: memory(sidecar.pid) - idle
        filler.until(lambda: counted() > BUDGET_MIB / 2)
        half = growth(), counted()
        filler.until(lambda: metric("spillway_cache_evictions_total") > metric("spillway_cache_entries"))
        full = growth(), counted()
        entries = metric("spillway_cache_entries")
        purge()
        time.sleep(SETTLED)
        return half, full, growth(), entries
    finally:
        stop([sidecar], keep=True)


def main():
    running = [origin()]
    is_held = True
    try:
        wait(ORIGIN)
        print(f"{'answers':>8} {'entries':>8} {'half':>7} {'counted':>8} {'off':>7} {'full':>7} {'counted':>8} {'off':>7} "
              f"{'of budget':>10} {'purged':>7}   MiB; budget {BUDGET_MIB}")
        for name, sizes in SIZES.items():
            (half, half_counted), (full, full_counted), purged, entries = measure(name, sizes)
            off = full / BUDGET_MIB - 1
            # Below the budget stays what is too little for one more answer in each of the store's shards.
            is_held &= off <= LIMIT and abs(full / full_counted - 1) <= LIMIT
            is_held &= BUDGET_MIB - full_counted <= SHARDS * (max(sizes) + 8192) / (1 << 20)
            print(f"{name:>8} {entries:>8.0f} {half:>7.1f} {half_counted:>8.1f} {half / half_counted - 1:>+7.1%} {full:>7.1f} "
                  f"{full_counted:>8.1f} {full / full_counted - 1:>+7.1%} {off:>+10.1%} {purged:>7.1f}", flush=True)
    finally:
        stop(running)
    if not is_held:
        sys.exit(f"a full store does not keep to its budget within {LIMIT:.0%}")


main()
