"""What a cached answer costs: the sidecar beside its peers. Run by `cargo xtask bench cache`."""
import os, statistics, sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from proxies import PROXIES, SIZES, cpu, load, memory, origin, origin_requests, start, stop, wait, wrk

SECONDS, ROUNDS, CONNECTIONS = 4, 3, 64
HERD = 1000


def herd(port, pid, number):
    """A thousand clients ask at once for an answer that nobody has yet: CPU microseconds of each, requests
    that reached the origin, milliseconds until all were answered."""
    asked, before = origin_requests(), cpu(pid)
    took = load("herd", port, f"/slow/10k?new={number}", HERD)["ms"]
    return 1e6 * (cpu(pid) - before) / HERD, origin_requests() - asked - 1, took


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
                    path = f"/cached/{size}"
                    if turn == 0:
                        wrk(port, path, 1, CONNECTIONS)
                    before = cpu(pids[name])
                    served, rate, p99 = wrk(port, path, SECONDS, CONNECTIONS)
                    figure = (1e6 * (cpu(pids[name]) - before) / served, rate, p99)
                    results[name].setdefault(size, []).append(figure)
            for name, (_, port) in PROXIES.items():
                results[name].setdefault("herd", []).append(herd(port, pids[name], turn))
        print(f"{'cache':10} {'hit 1 KiB':>10} {'hit 100 KiB':>12}   CPU us/request; {'req/s 1 KiB':>11} {'p99':>8} "
              f"{'PSS MiB':>14}; a new answer for {HERD} at once: CPU us, origin requests, ms")
        for name, result in results.items():
            cost = lambda size: statistics.median(figure[0] for figure in result[size])
            rate = statistics.median(figure[1] for figure in result["1k"])
            pss = f"{result['idle']:.1f} / {memory(pids[name]):.1f}"
            new = [statistics.median(one[at] for one in result["herd"]) for at in range(3)]
            print(f"{name:10} {cost('1k'):>10.1f} {cost('100k'):>12.1f} {'':17} {rate:>11.0f} "
                  f"{result['1k'][-1][2]:>8} {pss:>14}; {new[0]:>6.1f} {new[1]:>6.0f} {new[2]:>6.0f}")
    finally:
        stop(running)


main()
