"""Chooses the database by X-Shard, and answers 503 while the shard's data moves. For any WSGI application."""

import sys


def has_moved(error):
    """Whether the database refused a range that has left it: SQLSTATE 55006, in psycopg 3 and 2."""
    return "55006" in (getattr(error, "sqlstate", None), getattr(error, "pgcode", None))


def by_shard(application, pools):
    """`pools`: by shard, with `connection()` of psycopg_pool, which commits or rolls back at its end."""

    def serve(environ, start_response):
        try:
            with pools[environ["HTTP_X_SHARD"]].connection() as environ["shard.connection"]:
                return list(application(environ, start_response))
        except Exception as error:
            if not has_moved(error):
                raise
            start_response("503 Service Unavailable", [("Retry-After", "1")], sys.exc_info())
            return []

    return serve
