"""An application of which each request takes its worker's time: a database that answers after WORK_MS."""
import os, time

WORK = float(os.environ["WORK_MS"]) / 1000


def app(environ, start_response):
    time.sleep(WORK)
    start_response("200 OK", [("Content-Length", "2"), ("Content-Type", "text/plain")])
    return [b"ok"]
