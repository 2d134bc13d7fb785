"""python3 -m market: reads the settings, serves, and ends in order."""

import argparse
import os
import secrets
import signal
import sqlite3
import sys
import threading

from .assets import MissingPackage, package
from .routes import App
from .series import Series
from .server import Server
from .store import Store


def main():
    settings = parse_arguments()
    try:
        store = Store(settings.db)
        app = App(
            store,
            Series(package("vega-datasets") / "data"),
            settings.instruments,
            settings.secret or random_secret(),
            settings.report_seconds,
        )
        server = Server((settings.host, settings.port), app)
    except (MissingPackage, OSError, sqlite3.Error) as error:
        sys.exit(f"market: {error}")
    serve_until_told(server)
    store.close()


def serve_until_told(server):
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    # A short poll: it bounds how long the accepting goes on after a signal.
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    host, port = server.server_address
    print(f"market listening on http://{host}:{port}", flush=True)
    told.wait()
    server.drain()


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="market",
        description="A market-data application: prices, ticks, reports and a dashboard.",
        epilog="Each option is also read from the environment: MARKET_HOST, MARKET_PORT and so on.",
    )

    def option(name, default, help, type=str):
        value = os.environ.get("MARKET_" + name.upper().replace("-", "_"), default)
        shown = f"{help} (default {default})" if default else help
        parser.add_argument(f"--{name}", default=value, type=type, help=shown)

    option("host", "127.0.0.1", "address to listen on")
    option("port", "8080", "port to listen on, 0 for any free one", port_number)
    option("db", "market.db", "SQLite file for ticks, reports and notifications")
    option("instruments", "1-30000", "the ids this process holds", id_range)
    option("report-seconds", "4", "the least time a report takes", non_negative)
    option("secret", "", "signs session cookies; the same for all processes behind one address")
    return parser.parse_args()


def port_number(text):
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is between 0 and 65535")
    return int(text)


def id_range(text):
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
        raise argparse.ArgumentTypeError("instruments are given as FIRST-LAST, for example 1-30000")
    return range(int(first), int(last) + 1)


def non_negative(text):
    if float(text) < 0:
        raise argparse.ArgumentTypeError("seconds are not negative")
    return float(text)


def random_secret():
    print("market: no --secret: sessions end with this process", file=sys.stderr)
    return secrets.token_hex(32)


if __name__ == "__main__":
    main()
