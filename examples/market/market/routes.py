"""Which function answers which request."""

import re
import threading
from collections import Counter
from urllib.parse import unquote

from . import assets, pages, prices, report_routes, sessions
from .messages import Problem, json_response


class App:
    """Everything the handlers share."""

    def __init__(self, store, series, held, secret, report_seconds):
        self.store = store
        self.series = series
        self.held = held
        self.assets = assets.Assets()
        self.sessions = sessions.Sessions(secret)
        self.reports = report_routes.Reports(store, series, held, report_seconds)
        self._lock = threading.Lock()
        self._by_path = Counter()

    def answer(self, request):
        try:
            template, handler, values = _find(request)
            self._count(template)
            return handler(self, request, **values)
        except Problem as problem:
            return problem.response()

    def stats(self):
        with self._lock:
            by_path = dict(self._by_path)
        return {
            "requests": sum(by_path.values()),
            "by_path": by_path,
            "reports_computed": self.reports.computed,
        }

    def _count(self, template):
        with self._lock:
            self._by_path[template] += 1


def get_health(app, request):
    return json_response({"status": "ok", "instruments": f"{app.held[0]}-{app.held[-1]}"})


def get_stats(app, request):
    return json_response(app.stats()).header("Cache-Control", "no-store")


ROUTES = [
    ("GET", "/", pages.get_dashboard),
    ("GET", "/assets/{name}", assets.get_asset),
    ("GET", "/api/prices", prices.get_prices),
    ("GET", "/api/prices/{instrument_id}", prices.get_price),
    ("POST", "/api/ticks", prices.post_tick),
    ("POST", "/api/reports", report_routes.post_report),
    ("GET", "/api/notifications", report_routes.get_notifications),
    ("POST", "/hooks/report-ready", report_routes.post_report_ready),
    ("GET", "/api/session", sessions.get_session),
    ("POST", "/login", sessions.post_login),
    ("POST", "/logout", sessions.post_logout),
    ("GET", "/api/stats", get_stats),
    ("GET", "/healthz", get_health),
]


def _pattern(template):
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))


COMPILED = [(method, template, _pattern(template), handler) for method, template, handler in ROUTES]


def _find(request):
    path = unquote(request.path)
    wanted = "GET" if request.method == "HEAD" else request.method
    allowed = []
    for method, template, pattern, handler in COMPILED:
        match = pattern.fullmatch(path)
        if match and method == wanted:
            return template, handler, match.groupdict()
        if match:
            allowed.append(method)
    if allowed:
        raise Problem(405, f"{request.path} answers {', '.join(allowed)}", allow=allowed)
    raise Problem(404, "no such page")
