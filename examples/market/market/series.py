"""The instruments' price series, made from the real ones in npm's vega-datasets.

The data set holds five shares and the S&P 500, monthly from 2000 to 2010. Each of our
instruments is a basket of two of them: which two, their weights and the opening price
follow from its id alone. So thirty thousand instruments need no storage, every process
computes the same prices, and correlations between them are those of real shares.
"""

import csv
from datetime import datetime
from itertools import permutations

CURRENCY = "USD"


class Series:
    def __init__(self, data_folder):
        shares = _read(data_folder / "stocks.csv")
        shares.update(_read(data_folder / "sp500.csv", "SPX"))
        self._shares = shares
        self._pairs = list(permutations(sorted(shares), 2))

    def symbol(self, instrument_id):
        major, minor = self._pair(instrument_id)
        return f"{major}-{minor}-{instrument_id}"

    def points(self, instrument_id, start="", end=""):
        """[[date, price], …] of the months in start..end (ISO dates; empty = unbounded)."""
        major, minor = (self._shares[name] for name in self._pair(instrument_id))
        weight = 0.55 + (instrument_id * 31 % 41) / 100
        opening = 5 + instrument_id * 7919 % 49_600 / 100
        # One share was listed later than the others: a basket begins with its younger half.
        dates = [date for date in major if date in minor]
        first_major, first_minor = major[dates[0]], minor[dates[0]]
        return [
            [date, round(opening * _blend(weight, major[date] / first_major, minor[date] / first_minor), 2)]
            for date in dates
            if date >= start and (not end or date <= end)
        ]

    def _pair(self, instrument_id):
        return self._pairs[instrument_id % len(self._pairs)]


def _blend(weight, major, minor):
    return weight * major + (1 - weight) * minor


def _read(path, symbol=None):
    """{symbol: {date: price}} of a CSV file with dates like 'Jan 1 2000'."""
    shares = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            date = datetime.strptime(row["date"], "%b %d %Y").date().isoformat()
            shares.setdefault(symbol or row["symbol"], {})[date] = float(row["price"])
    return shares
