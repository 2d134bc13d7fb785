"""Reports over HTTP: asking for one, and hearing that one is ready."""

import json
import threading
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone

from .messages import FORM_TYPE, Problem, html_response, json_response, redirect
from .pages import report_page
from .reports import generate_report
from .sessions import caller, require_session

NOTIFICATIONS_SHOWN = 20


def post_report(app, request):
    user = caller(app, request)
    if user is None:
        if request.wants_html:
            return redirect("/?notice=login")
        raise Problem(401, "log in first, or come through the proxy with X-User-Id")
    params = _params(request, user)
    key = request.headers.get("Idempotency-Key")
    report = app.reports.produce(user, params, key)
    if request.wants_html:
        return html_response(report_page(app, report))
    return json_response(report)


def post_report_ready(app, request):
    """A webhook: {"id"?, "data": {"job"?, "user"?, "status"?, "result" or "location"?}}."""
    event = request.json()
    data = event.get("data")
    if not isinstance(data, dict) or not (data.get("job") or data.get("user")):
        raise Problem(422, "data.job or data.user must say whom this is for")
    job = _text(data.get("job"))
    # A job whose sender left out the user is known by the key its report was made under.
    user = _text(data.get("user")) or app.store.owner_of_key(job)
    app.store.add_notification({
        "id": _text(request.headers.get("webhook-id") or event.get("id")) or str(uuid.uuid4()),
        "user": user,
        "job": job,
        "status": _text(data.get("status")) or "succeeded",
        "link": _safe_link(data.get("result") or data.get("location")),
        "received": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    })
    return json_response({"stored": True, "user": user}, 201)


def get_notifications(app, request):
    user = require_session(app, request)
    answer = json_response(app.store.notifications(user, NOTIFICATIONS_SHOWN))
    return answer.header("Cache-Control", "private, no-store")


class Reports:
    """Makes each report once per idempotency key, and counts the work done."""

    def __init__(self, store, series, held, seconds):
        self._store = store
        self._work = lambda user, params: generate_report(user, params, series, held, seconds)
        self._lock = threading.Lock()
        self._running = {}
        self.computed = 0

    def produce(self, user, params, key):
        canonical = json.dumps(params, sort_keys=True)
        with self._alone(user, key):
            stored = self._store.report(user, key) if key else None
            if stored is None:
                report = self._work(user, params)
                with self._lock:
                    self.computed += 1
                self._store.add_report(report, key, canonical)
                stored = self._store.report(user, key) if key else (canonical, report)
        if stored[0] != canonical:
            raise Problem(422, "this Idempotency-Key was used for another report")
        return stored[1]

    @contextmanager
    def _alone(self, user, key):
        """Two requests with the same key follow each other; all others run at once."""
        if key is None:
            yield
            return
        with self._lock:
            entry = self._running.setdefault((user, key), [threading.Lock(), 0])
            entry[1] += 1
        try:
            with entry[0]:
                yield
        finally:
            with self._lock:
                entry[1] -= 1
                if not entry[1]:
                    del self._running[user, key]


def _params(request, user):
    fields = request.fields()
    if request.media_type == FORM_TYPE:
        return {name: fields[name] for name in ("instruments", "from", "to") if name in fields}
    asked_for = fields.get("user_id", user)
    if str(asked_for) != user:
        raise Problem(403, "reports are made for the user who asks")
    params = fields.get("report_params", {})
    if not isinstance(params, dict):
        raise Problem(422, "report_params must be an object")
    return params


def _text(value, limit=300):
    return None if value is None else str(value)[:limit]


def _safe_link(value):
    """Links end up in a page: only web addresses, never javascript: and the like."""
    text = _text(value, 2000)  # links signed for a storage service are long
    return text if text and text.startswith(("/", "https://", "http://")) else None
