"""Prices in PostgreSQL: an application with the helper of examples/shards, as gunicorn serves it.

SHARD_URL_B and the like name the databases; what a request writes is one row, and how often it is there is what
one reads.
"""

import os
import sys
from pathlib import Path
from urllib.parse import parse_qs

from psycopg_pool import ConnectionPool

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples/shards/python"))
from by_shard import by_shard  # noqa: E402

URLS = {name.removeprefix("SHARD_URL_").lower(): url for name, url in os.environ.items() if name.startswith("SHARD_URL_")}


def prices(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    instrument = int(query["id"][0])
    connection = environ["shard.connection"]
    if environ["REQUEST_METHOD"] == "POST":
        note = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        connection.execute(
            "INSERT INTO prices (instrument_id, price, note) VALUES (%s, 1, %s)", (instrument, note)
        )
        text = "kept"
    else:
        same = "SELECT count(*) FROM prices WHERE instrument_id = %s AND note = %s"
        text = str(connection.execute(same, (instrument, query["note"][0])).fetchone()[0])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


pools = {shard: ConnectionPool(url, min_size=2, max_size=8, open=True) for shard, url in URLS.items()}
application = by_shard(prices, pools)
