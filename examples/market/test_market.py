"""The application as its clients see it: a real process on a port of its own."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from urllib.parse import urlencode

from market_process import HERE, JSON, Process, send

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}


class MarketTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.market = Process(Path(cls.folder.name) / "market.db")

    @classmethod
    def tearDownClass(cls):
        cls.market.end()
        cls.folder.cleanup()


class Prices(MarketTest):
    def test_an_instrument_has_a_series_and_a_last_price(self):
        quote = self.market.ask("GET", "/api/prices/42").json
        self.assertEqual((quote["instrument_id"], quote["currency"], quote["ticks"]), (42, "USD", []))
        self.assertRegex(quote["symbol"], r"^[A-Z]+-[A-Z]+-42$")
        self.assertEqual(quote["last"]["price"], quote["points"][-1][1])
        self.assertRegex(quote["points"][0][0], r"^\d{4}-\d\d-\d\d$")

    def test_from_and_to_cut_the_series(self):
        points = self.market.ask("GET", "/api/prices/42?from=2009-01-01&to=2009-03-31").json["points"]
        self.assertEqual([date for date, _ in points], ["2009-01-01", "2009-02-01", "2009-03-01"])

    def test_prices_carry_an_etag_and_no_cache_control(self):
        first = self.market.ask("GET", "/api/prices/43")
        self.assertNotIn("Cache-Control", first.headers)
        again = self.market.ask("GET", "/api/prices/43", headers={"If-None-Match": first.headers["ETag"]})
        self.assertEqual((again.status, again.body), (304, b""))

    def test_many_come_in_the_order_asked(self):
        quotes = self.market.ask("GET", "/api/prices?ids=30000,1,15000").json
        self.assertEqual([quote["instrument_id"] for quote in quotes], [30000, 1, 15000])

    def test_many_name_those_that_are_missing(self):
        answer = self.market.ask("GET", "/api/prices?ids=1,30001,40000")
        self.assertEqual((answer.status, answer.json["missing"]), (404, [30001, 40000]))

    def test_an_unknown_id_is_404_and_nonsense_is_400(self):
        self.assertEqual(self.market.ask("GET", "/api/prices/30001").status, 404)
        for path in ("/api/prices/abc", "/api/prices/-1", "/api/prices", "/api/prices/1?from=May"):
            answer = self.market.ask("GET", path)
            self.assertEqual((answer.status, path), (400, path))
            self.assertEqual(answer.headers["Content-Type"], "application/problem+json")


class Ticks(MarketTest):
    def test_a_tick_shows_at_once(self):
        before = self.market.ask("GET", "/api/prices/15000").headers["ETag"]
        tick = {"instrument_id": 15000, "price": 12.5, "ts": "2026-01-02T04:04:05+01:00"}
        self.assertEqual(self.market.post_json("/api/ticks", tick).status, 201)
        answer = self.market.ask("GET", "/api/prices/15000", headers={"If-None-Match": before})
        self.assertEqual(answer.json["ticks"], [["2026-01-02T03:04:05.000Z", 12.5]])
        self.assertEqual(answer.json["last"]["source"], "tick")

    def test_a_tick_survives_a_restart(self):
        db = Path(self.folder.name) / "restart.db"
        first = Process(db)
        first.post_json("/api/ticks", {"instrument_id": 7, "price": 3})
        self.assertEqual(first.end(), 0)
        second = Process(db)
        self.assertEqual(second.ask("GET", "/api/prices/7").json["last"]["price"], 3)
        second.end()

    def test_bad_ticks_are_refused(self):
        post = self.market.post_json
        self.assertEqual(post("/api/ticks", {"instrument_id": 30001, "price": 1}).status, 404)
        for tick in ({"price": 1}, {"instrument_id": "1", "price": 1}, {"instrument_id": 1, "price": -1},
                     {"instrument_id": 1, "price": True}, {"instrument_id": 1, "price": 1, "ts": "soon"}, []):
            self.assertEqual(post("/api/ticks", tick).status, 422, tick)
        self.assertEqual(self.market.ask("POST", "/api/ticks", "{", JSON).status, 400)
        self.assertEqual(self.market.ask("POST", "/api/ticks", "{}", {"Content-Type": "text/plain"}).status, 415)

    def test_a_chunked_body_is_read(self):
        chunks = iter([b'{"instrument_id": 8,', b' "price": 4}'])
        self.assertEqual(self.market.ask("POST", "/api/ticks", chunks, JSON).status, 201)


class Pages(MarketTest):
    def test_the_dashboard_names_hashed_assets_that_exist(self):
        page = self.market.ask("GET", "/")
        self.assertEqual(page.headers["Cache-Control"], "private, no-cache")
        assets = set(re.findall(r'/assets/[a-z]+\.[0-9a-f]{8}\.(?:css|js|svg)', page.body.decode()))
        self.assertEqual(len(assets), 5)
        for path in assets:
            asset = self.market.ask("GET", path)
            self.assertEqual((asset.status, asset.headers["Cache-Control"]), (200, "public, max-age=60"))
            for name, value in (("If-None-Match", asset.headers["ETag"]),
                                ("If-Modified-Since", asset.headers["Last-Modified"])):
                self.assertEqual(self.market.ask("GET", path, headers={name: value}).status, 304)

    def test_an_unknown_asset_is_404(self):
        for path in ("/assets/dashboard.css", "/assets/dashboard.00000000.css", "/assets/..%2fstore.py"):
            self.assertEqual(self.market.ask("GET", path).status, 404, path)

    def test_head_has_the_head_of_get(self):
        head = self.market.ask("HEAD", "/healthz")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertGreater(int(head.headers["Content-Length"]), 0)

    def test_a_wrong_method_is_405_with_the_right_one(self):
        answer = self.market.ask("DELETE", "/api/ticks")
        self.assertEqual((answer.status, answer.headers["Allow"]), (405, "POST"))


class SessionsAndReports(MarketTest):
    def test_a_login_is_known_to_every_process_with_the_secret(self):
        other = Process(Path(self.folder.name) / "other.db", "10001-20000")
        answer = other.ask("GET", "/api/session", headers=self.market.cookie())
        self.assertEqual((answer.status, answer.json, answer.headers["X-User-Id"]), (200, {"user": "alice"}, "alice"))
        other.end()

    def test_a_forged_or_missing_cookie_is_401(self):
        cookie = self.market.cookie()["Cookie"]
        for forged in ("", "session=x", cookie.replace("alice", "bob"), cookie[:-1]):
            self.assertEqual(self.market.ask("GET", "/api/session", headers={"Cookie": forged}).status, 401)
        self.assertEqual(self.market.login(password="bob").status, 401)

    def test_a_form_login_leads_back_to_the_page(self):
        answer = self.market.ask("POST", "/login", urlencode({"user": "bob", "password": "bob"}), FORM)
        self.assertEqual((answer.status, answer.headers["Location"]), (303, "/"))
        self.assertRegex(answer.headers["Set-Cookie"], r"^session=bob\..*; HttpOnly; SameSite=Lax; Path=/$")
        self.assertIn("Max-Age=0", self.market.ask("POST", "/logout", "", FORM).headers["Set-Cookie"])

    def test_a_report_takes_its_time_and_is_json_for_json_clients(self):
        started = time.monotonic()
        body = {"user_id": "alice", "report_params": {"instruments": [1, 2, 40000]}}
        report = self.market.post_json("/api/reports", body, {"X-User-Id": "alice"}).json
        self.assertGreaterEqual(time.monotonic() - started, 0.2)
        self.assertEqual([each["instrument_id"] for each in report["instruments"]], [1, 2])
        self.assertEqual((report["user_id"], report["missing"]), ("alice", [40000]))

    def test_a_report_form_answers_with_a_page(self):
        headers = {**FORM, **self.market.cookie()}
        answer = self.market.ask("POST", "/api/reports", urlencode({"instruments": "3, 4", "from": ""}), headers)
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn(b"For alice", answer.body)

    def test_a_report_needs_a_user(self):
        self.assertEqual(self.market.post_json("/api/reports", {}).status, 401)
        form = self.market.ask("POST", "/api/reports", "", FORM)
        self.assertEqual((form.status, form.headers["Location"]), (303, "/?notice=login"))
        stranger = self.market.post_json("/api/reports", {"user_id": "bob"}, {"X-User-Id": "alice"})
        self.assertEqual(stranger.status, 403)

    def test_the_same_key_makes_one_report_even_at_the_same_time(self):
        headers = {"X-User-Id": "alice", "Idempotency-Key": "k1"}
        before = self.market.ask("GET", "/api/stats").json["reports_computed"]
        ids = []
        ask = lambda: ids.append(self.market.post_json("/api/reports", {}, headers).json["report_id"])
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((len(ids), len(set(ids))), (3, 1))
        self.assertEqual(self.market.ask("GET", "/api/stats").json["reports_computed"], before + 1)
        other = self.market.post_json("/api/reports", {"report_params": {"from": "2005-01-01"}}, headers)
        self.assertEqual(other.status, 422)

    def test_a_ready_report_notifies_its_user_once(self):
        event = {"specversion": "1.0", "id": "e1", "data": {"job": "j1", "user": "bob", "result": "/r/1"}}
        for _ in range(2):
            answer = self.market.post_json("/hooks/report-ready", event)
            self.assertEqual(answer.status, 201)
        mine = self.market.ask("GET", "/api/notifications", headers=self.market.cookie("bob")).json
        self.assertEqual([(each["job"], each["link"]) for each in mine], [("j1", "/r/1")])
        self.assertEqual(self.market.ask("GET", "/api/notifications").status, 401)

    def test_a_job_without_a_user_is_found_by_its_key(self):
        self.market.post_json("/api/reports", {}, {"X-User-Id": "carol", "Idempotency-Key": "j2"})
        event = {"data": {"job": "j2", "location": "javascript:alert(1)"}}
        self.assertEqual(self.market.post_json("/hooks/report-ready", event).json["user"], "carol")
        self.assertEqual(self.market.post_json("/hooks/report-ready", {"data": {}}).status, 422)


class Serving(MarketTest):
    def test_a_process_holds_just_its_instruments(self):
        shard = Process(Path(self.folder.name) / "shard.db", "10001-20000")
        statuses = [shard.ask("GET", f"/api/prices/{each}").status for each in (10000, 10001, 20000, 20001)]
        self.assertEqual(statuses, [404, 200, 200, 404])
        self.assertEqual(
            shard.ask("GET", "/api/prices/15001").json["points"],
            self.market.ask("GET", "/api/prices/15001").json["points"],
        )
        shard.end()

    def test_one_connection_serves_many_requests_refused_ones_too(self):
        connection = self.market.connect()
        connection.connect()
        first = connection.sock
        for path in ("/healthz", "/nowhere", "/api/prices/1"):
            send(connection, "GET", path)
            send(connection, "POST", path, "{}", JSON)
            self.assertIs(connection.sock, first)
        connection.close()

    def test_a_body_too_large_is_413(self):
        with socket.create_connection(("127.0.0.1", self.market.port)) as raw:
            raw.sendall(b"POST /api/ticks HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n")
            self.assertTrue(raw.makefile("rb").readline().startswith(b"HTTP/1.1 413 "))

    def test_every_request_is_counted_and_logged_on_one_line(self):
        process = Process(Path(self.folder.name) / "log.db")
        process.ask("GET", "/api/prices/9", headers={"User-Agent": 'a"b'})
        process.ask("GET", "/healthz")
        stats = process.ask("GET", "/api/stats").json
        self.assertEqual(stats["by_path"]["/api/prices/{instrument_id}"], 1)
        self.assertEqual((stats["requests"], stats["reports_computed"]), (3, 0))
        process.end()
        self.assertEqual(len(process.log_lines), 3)
        # The answer is sent before its line is written: the next request's may come first.
        line = next(line for line in process.log_lines if "/api/prices/9" in line)
        self.assertRegex(line, r'^127\.0\.0\.1 - - \[.+\] "GET /api/prices/9 HTTP/1\.1" 200 \d+ "-" "a\?b" [\d.]+$')

    def test_sigterm_finishes_what_is_in_flight_and_frees_idle_connections(self):
        process = Process(Path(self.folder.name) / "term.db", report_seconds="1")
        idle, busy = process.connect(), process.connect()
        send(idle, "GET", "/healthz")
        busy.request("POST", "/api/reports", "{}", {**JSON, "X-User-Id": "alice"})
        # Answered in turn by the same process: the report has been accepted by then.
        while "/api/reports" not in process.ask("GET", "/api/stats").json["by_path"]:
            pass
        started = time.monotonic()
        process.child.send_signal(signal.SIGTERM)
        answer = busy.getresponse()
        self.assertEqual((answer.status, answer.headers["Connection"]), (200, "close"))
        self.assertIn("report_id", json.loads(answer.read()))
        self.assertEqual(process.end(), 0)
        self.assertLess(time.monotonic() - started, 5)
        self.assertEqual(idle.sock.recv(1), b"")
        idle.close()
        busy.close()


class Starting(unittest.TestCase):
    def refusal(self, *arguments, cwd=HERE):
        done = subprocess.run(
            [sys.executable, "-m", "market", *arguments], cwd=cwd, capture_output=True, text=True, timeout=10
        )
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_bad_settings_are_named(self):
        self.assertIn("1-30000", self.refusal("--instruments", "5-2"))
        self.assertIn("--port", self.refusal("--port", "99999"))

    def test_missing_packages_are_named_with_their_cure(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(HERE / "market", Path(folder) / "market")
            self.assertIn("npm ci", self.refusal("--db", f"{folder}/x.db", cwd=folder))


if __name__ == "__main__":
    unittest.main()
