"""The slow part: risk statistics over many instruments, in plain Python.

`generate_report` knows nothing of HTTP, so that a worker can call it as well.
"""

import math
import random
import time
import uuid
from array import array
from datetime import datetime, timezone
from itertools import combinations

from .messages import Problem
from .prices import parse_date, parse_id

SAMPLE = 12
LIMIT = 60
RESAMPLES = 200
MONTHS = 12


def generate_report(user_id, report_params, series, held, seconds):
    """Takes at least `seconds`: more resamples make the confidence intervals narrower."""
    started = time.monotonic()
    ids, missing = _instruments(report_params, held)
    start, end = (parse_date(report_params.get(name) or "", name) for name in ("from", "to"))
    returns = _aligned_returns({each: dict(series.points(each, start, end)) for each in ids})
    portfolio = [sum(month) / len(ids) for month in zip(*returns.values())]
    intervals, resamples = _bootstrap(portfolio, started + seconds)
    return {
        "report_id": str(uuid.uuid4()),
        "user_id": user_id,
        "report_params": report_params,
        "generated_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "months": len(portfolio),
        "instruments": [
            {"instrument_id": each, "symbol": series.symbol(each), **_statistics(returns[each])}
            for each in ids
        ],
        "missing": missing,
        "portfolio": _statistics(portfolio),
        "intervals": intervals,
        "resamples": resamples,
        "correlations": _correlations(returns),
        "seconds": round(time.monotonic() - started, 3),
    }


def _instruments(params, held):
    """The instruments asked for, and those of them that are not held here."""
    asked = params.get("instruments")
    if not asked:
        # Odd, so that the sample does not meet the same few baskets again and again.
        step = len(held) // SAMPLE | 1
        return list(held[::step][:SAMPLE]), []
    if isinstance(asked, str):
        asked = asked.replace(",", " ").split()
    if not isinstance(asked, list) or len(asked) > LIMIT:
        raise Problem(422, f"instruments must be a list of at most {LIMIT} ids")
    ids = list(dict.fromkeys(parse_id(str(each)) for each in asked))
    missing = [each for each in ids if each not in held]
    if len(missing) == len(ids):
        raise Problem(404, "none of these instruments is held here", missing=missing)
    return [each for each in ids if each in held], missing


def _aligned_returns(prices):
    """{id: monthly returns} over the dates that all instruments have."""
    dates = sorted(set.intersection(*(set(each) for each in prices.values())))
    if len(dates) <= MONTHS:
        raise Problem(422, "a report needs more than a year of prices that all instruments have")
    return {
        each: [points[after] / points[before] - 1 for before, after in zip(dates, dates[1:])]
        for each, points in prices.items()
    }


def _statistics(returns):
    growth = math.prod(1 + each for each in returns)
    mean = sum(returns) / len(returns)
    variance = sum((each - mean) ** 2 for each in returns) / (len(returns) - 1)
    return {
        "annual_return": round(growth ** (MONTHS / len(returns)) - 1, 4),
        "volatility": round(math.sqrt(variance * MONTHS), 4),
        "max_drawdown": round(_max_drawdown(returns), 4),
    }


def _max_drawdown(returns):
    value = peak = 1.0
    worst = 0.0
    for each in returns:
        value *= 1 + each
        peak = max(peak, value)
        worst = min(worst, value / peak - 1)
    return worst


def _bootstrap(returns, deadline):
    """90 % intervals of the portfolio's statistics from resampled histories."""
    draw = random.Random(len(returns))
    samples = {name: array("d") for name in _statistics(returns)}
    count = 0
    while count < RESAMPLES or time.monotonic() < deadline:
        for name, value in _statistics(draw.choices(returns, k=len(returns))).items():
            samples[name].append(value)
        count += 1
    twentieth = count // 20
    ordered = {name: sorted(values) for name, values in samples.items()}
    return {name: [values[twentieth], values[-1 - twentieth]] for name, values in ordered.items()}, count


def _correlations(returns):
    """Every pair's correlation, the closest first."""
    scores = {each: _standard_scores(values) for each, values in returns.items()}
    pairs = [
        {"a": a, "b": b, "correlation": round(sum(map(float.__mul__, scores[a], scores[b])), 4)}
        for a, b in combinations(returns, 2)
    ]
    return sorted(pairs, key=lambda pair: -pair["correlation"])


def _standard_scores(values):
    """Scaled so that the product of two such lists sums to their correlation."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((each - mean) ** 2 for each in values))
    return [(each - mean) / spread for each in values]
