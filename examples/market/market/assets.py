"""The asset pipeline: files under /assets/ carry a hash of their content in the name."""

import hashlib
from datetime import timezone
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

from .messages import Problem, Response, etag_matches, not_modified

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CACHE_CONTROL = "public, max-age=60"


class MissingPackage(Exception):
    """A package of package.json is not installed."""


class Assets:
    """Every asset in memory, by its hashed name."""

    def __init__(self):
        self._files = {}
        self._names = {}
        plots = package("uplot") / "dist"
        self._add("uplot.js", plots / "uPlot.iife.min.js")
        self._add("uplot.css", plots / "uPlot.min.css")
        for path in sorted(STATIC.iterdir()):
            self._add(path.name, path)

    def url(self, name):
        """The address of an asset as pages must write it."""
        return f"/assets/{self._names[name]}"

    def _add(self, name, path):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        stem, dot, suffix = name.rpartition(".")
        hashed = f"{stem}.{digest[:8]}.{suffix}"
        headers = [
            ("Content-Type", TYPES[dot + suffix]),
            ("Cache-Control", CACHE_CONTROL),
            ("ETag", f'"{digest[:16]}"'),
            ("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True)),
        ]
        self._names[name] = hashed
        self._files[hashed] = content, headers

    def response(self, request, name):
        if name not in self._files:
            raise Problem(404, "no such asset")
        content, headers = self._files[name]
        answer = Response(200, content, list(headers))
        return not_modified(answer) if _client_has(request, dict(headers)) else answer


def _client_has(request, headers):
    if "If-None-Match" in request.headers:
        return etag_matches(request.headers["If-None-Match"], headers["ETag"])
    try:
        since = parsedate_to_datetime(request.headers.get("If-Modified-Since", ""))
    except ValueError:
        return False
    # A date in zone "-0000" comes back without one.
    since = since if since.tzinfo else since.replace(tzinfo=timezone.utc)
    return parsedate_to_datetime(headers["Last-Modified"]) <= since


def package(name):
    """The folder of an npm package, looked for the way Node does: here, then upwards."""
    for folder in Path(__file__).resolve().parents[1:]:
        candidate = folder / "node_modules" / name
        if candidate.is_dir():
            return candidate
    raise MissingPackage(f"the npm package {name} is missing: run `npm ci` in {STATIC.parents[1]}")


def get_asset(app, request, name):
    return app.assets.response(request, name)
