"""Starts the application for its tests, and asks it."""

import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
JSON = {"Content-Type": "application/json"}


class Process:
    """A running `python3 -m market`."""

    def __init__(self, db, instruments="1-30000", report_seconds="0.2"):
        self.log = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "market", "--port", "0", "--db", str(db), "--secret", "test"]
        command += ["--instruments", instruments, "--report-seconds", report_seconds]
        self.child = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.child.stdout.readline()
        self.port = int(re.fullmatch(r"market listening on http://127\.0\.0\.1:(\d+)\n", line)[1])

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, method, path, body=None, headers=None):
        connection = self.connect()
        try:
            return send(connection, method, path, body, headers)
        finally:
            connection.close()

    def post_json(self, path, value, headers=None):
        return self.ask("POST", path, json.dumps(value), {**JSON, **(headers or {})})

    def login(self, user="alice", password="alice"):
        return self.post_json("/login", {"user": user, "password": password})

    def cookie(self, user="alice"):
        return {"Cookie": self.login(user, user).headers["Set-Cookie"].split(";")[0]}

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(10)
        self.child.stdout.close()
        self.log.seek(0)
        self.log_lines = self.log.read().splitlines()
        self.log.close()
        return status


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


def send(connection, method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    return Answer(connection.getresponse())
