"""The proxy path beside its peers. Run by `cargo xtask bench proxy`.

Prints a table in Markdown and writes the picture: `peers.py PICTURE`.
"""
import json, os, platform, statistics, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from proxies import IDLE, ORIGIN, PROXIES, cpu, load, memory, origin, path_of, start, stop, wait, wrk

CASES = {"hit 1 KiB": "/cached/1k", "hit 100 KiB": "/cached/100k",
         "pass 1 KiB": "/pass/1k", "pass 1 KiB at once": "/pass/at-once/1k", "pass 100 KiB": "/pass/100k"}
# Many short rounds: a neighbour's work on the machine lasts for seconds, and then spoils a few of them.
SECONDS, ROUNDS, CONNECTIONS = 1, 15, 64
# Far from what any of them can do, so that it is the way through the proxy that is measured.
RATE, RATE_SECONDS, RATE_CONNECTIONS = 1000, 4, 8
RATE_EVERY = 3
SETTLE_SECONDS = 8


def held(port, pid):
    """KiB that each of so many idle connections costs, and how many are still open then."""
    before = memory(pid)
    command = ["taskset", "-c", "1", path_of("load"), "hold", f"127.0.0.1:{port}", "/cached/1k", str(IDLE)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if holder.stdout.readline() != "held\n":
        holder.wait()
        return None, 0
    # The last of them is idle by now, too.
    time.sleep(SETTLE_SECONDS)
    with_all = memory(pid)
    said, _ = holder.communicate("")
    return 1024 * (with_all - before) / IDLE, json.loads(said)["open"]


def measure(results, pids):
    """Rounds take turns, each beginning with another proxy, so that noise of the machine meets all alike."""
    for turn in range(ROUNDS):
        peers = list(PROXIES.items())
        first = turn % len(peers)
        for case, path in CASES.items():
            for name, (_, port) in peers[first:] + peers[:first]:
                if turn == 0:
                    wrk(port, path, 1, CONNECTIONS)
                before = cpu(pids[name])
                served, rate, _ = wrk(port, path, SECONDS, CONNECTIONS)
                if served == 0:
                    # The machine has given its cores to others all the while.
                    print(f"bench: a round without figures: {name}, {case}", file=sys.stderr)
                    continue
                results[name].setdefault(case, {})[turn] = (1e6 * (cpu(pids[name]) - before) / served, rate)
        if turn % RATE_EVERY != 0:
            continue
        direct = load("rate", ORIGIN, "/pass/1k", RATE, RATE_SECONDS, RATE_CONNECTIONS)
        for name, (_, port) in PROXIES.items():
            through = load("rate", port, "/pass/1k", RATE, RATE_SECONDS, RATE_CONNECTIONS)
            added = {part: through[part] - direct[part] for part in through}
            results[name].setdefault("added", []).append(added)


def table(results):
    middle = lambda figures: statistics.median(figures)
    lines = ["| proxy | " + " | ".join(f"{case}, µs" for case in CASES) + " | req/s, hit 1 KiB | req/s, pass 1 KiB |",
             "|---" * (len(CASES) + 3) + "|"]
    for name, result in results.items():
        costs = [f"{middle(one[0] for one in result[case].values()):.1f}" for case in CASES]
        rates = [f"{middle(one[1] for one in result[case].values()):,.0f}" for case in ("hit 1 KiB", "pass 1 KiB")]
        lines.append(f"| {name} | " + " | ".join(costs + rates) + " |")
    lines += ["", "| proxy | added p50, µs | p99 | p99.9 | PSS idle, MiB | after the run | per idle connection, KiB | "
              "ready after, ms |", "|---" * 8 + "|"]
    for name, result in results.items():
        added = [f"{middle(one[part] for one in result['added']):.0f}" for part in ("p50", "p99", "p999")]
        each, is_open = result["held"]
        kept = "not held" if each is None else f"{each:.1f}" + ("" if is_open == IDLE else f" ({is_open:,} left)")
        lines.append(f"| {name} | " + " | ".join(added) + f" | {result['idle']:.1f} | {result['after']:.1f} | "
                     f"{kept} | {1000 * result['ready']:.0f} |")
    lines += ["", "| spillway beside | " + " | ".join(CASES) + " |", "|---" * (len(CASES) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{beside(results, name, case):.3f}" for case in CASES) + " |"
              for name in results if name != "spillway"]
    return "\n".join(lines)


def beside(results, name, case):
    """The middle of our CPU time over theirs, round by round: within one, the machine was the same for both."""
    ours, theirs = results["spillway"][case], results[name][case]
    return statistics.median(ours[turn][0] / theirs[turn][0] for turn in ours.keys() & theirs.keys())


def picture(results):
    """Bars of the CPU time of each case, the lowest of each first."""
    line, left, width = 22, 120, 720
    parts, y = [], 0
    for case in CASES:
        costs = {name: statistics.median(one[0] for one in result[case].values()) for name, result in results.items()}
        y += line
        parts.append(f"<text x='10' y='{y}' font-weight='bold'>{case}: CPU per request, µs</text>")
        for name, cost in sorted(costs.items(), key=lambda one: one[1]):
            y += line
            bar = (width - left - 60) * cost / max(costs.values())
            fill = "#1769c9" if name == "spillway" else "#b8bec6"
            parts.append(f"<text x='{left - 8}' y='{y}' text-anchor='end'>{name}</text>"
                         f"<rect x='{left}' y='{y - 13}' width='{bar:.1f}' height='16' fill='{fill}'/>"
                         f"<text x='{left + bar + 6:.1f}' y='{y}'>{cost:.1f}</text>")
        y += line // 2
    head = (f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{y + 10}' "
            "font-family='system-ui,sans-serif' font-size='13'><rect width='100%' height='100%' fill='white'/>\n")
    return head + "\n".join(parts) + "\n</svg>\n"


def main():
    running = [origin()]
    results, pids = {name: {} for name in PROXIES}, {}
    try:
        time.sleep(0.5)
        for name, (command, port) in PROXIES.items():
            began = time.monotonic()
            process = start(command(port), 0)
            running.append(process)
            pids[name] = process.pid
            wait(port)
            results[name]["ready"] = time.monotonic() - began
            results[name]["idle"] = memory(process.pid)
        measure(results, pids)
        for name, (_, port) in PROXIES.items():
            results[name]["after"] = memory(pids[name])
            results[name]["held"] = held(port, pids[name])
        print(f"{platform.machine()}, {os.cpu_count()} cores; medians of {ROUNDS} rounds of {SECONDS} s, {CONNECTIONS} "
              f"connections; added latency of a passed 1 KiB at {RATE}/s; {IDLE} idle connections.\n")
        print(table(results))
        with open(sys.argv[1], "w") as file:
            file.write(picture(results))
    finally:
        stop(running)


main()
