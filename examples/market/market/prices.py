"""Prices and ticks: what the application is mostly asked for."""

import math
import re
from datetime import date, datetime, timezone

from .messages import Problem, json_response, with_etag
from .series import CURRENCY

MANY = 100
TICKS_SHOWN = 50
ID = re.compile(r"[0-9]{1,12}")


def get_price(app, request, instrument_id):
    instrument_id = parse_id(instrument_id)
    require_held(app, instrument_id)
    return with_etag(request, json_response(_quote(app, instrument_id, *_period(request))))


def get_prices(app, request):
    asked = request.query_value("ids")
    if not asked:
        raise Problem(400, "which ones? /api/prices?ids=1,2,3")
    ids = [parse_id(part.strip()) for part in asked.split(",")]
    if len(ids) > MANY:
        raise Problem(400, f"at most {MANY} ids at a time")
    missing = [instrument_id for instrument_id in ids if instrument_id not in app.held]
    if missing:
        raise Problem(404, f"not held here: {', '.join(map(str, missing))}", missing=missing)
    period = _period(request)
    return with_etag(request, json_response([_quote(app, each, *period) for each in ids]))


def post_tick(app, request):
    tick = request.json()
    instrument_id = tick.get("instrument_id")
    if not isinstance(instrument_id, int) or isinstance(instrument_id, bool):
        raise Problem(422, "instrument_id must be an integer")
    price = tick.get("price")
    if isinstance(price, bool) or not isinstance(price, (int, float)) or not _is_price(price):
        raise Problem(422, "price must be a positive number")
    ts = _timestamp(tick.get("ts"))
    require_held(app, instrument_id)
    app.store.add_tick(instrument_id, ts, float(price))
    return json_response({"instrument_id": instrument_id, "price": float(price), "ts": ts}, 201)


def parse_id(text):
    if not ID.fullmatch(text):
        raise Problem(400, f"not an instrument id: {text[:40]!r}")
    return int(text)


def parse_date(text, name):
    """An ISO date, or the empty string for none."""
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except (TypeError, ValueError):
        raise Problem(400, f"{name} must be a date like 2009-01-31") from None


def require_held(app, instrument_id):
    if instrument_id not in app.held:
        raise Problem(404, f"instrument {instrument_id} is not held here", instrument_id=instrument_id)


def _quote(app, instrument_id, start, end):
    points = app.series.points(instrument_id)
    ticks = app.store.ticks(instrument_id, TICKS_SHOWN)
    ts, price = ticks[-1] if ticks else points[-1]
    return {
        "instrument_id": instrument_id,
        "symbol": app.series.symbol(instrument_id),
        "currency": CURRENCY,
        "points": [each for each in points if each[0] >= start and (not end or each[0] <= end)],
        "last": {"ts": ts, "price": price, "source": "tick" if ticks else "close"},
        "ticks": ticks,
    }


def _period(request):
    return tuple(parse_date(request.query_value(name), name) for name in ("from", "to"))


def _is_price(price):
    try:
        return math.isfinite(price) and price > 0
    except OverflowError:
        return False


def _timestamp(text):
    """An ISO timestamp in UTC, so that text order is time order; now when none was given."""
    if text is None:
        moment = datetime.now(timezone.utc)
    else:
        try:
            moment = datetime.fromisoformat(text)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
        except (TypeError, ValueError, OverflowError):
            raise Problem(422, "ts must be an ISO 8601 timestamp") from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
