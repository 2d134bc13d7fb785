"""What a handler receives and returns: Request, Response and Problem."""

import hashlib
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    headers: list = field(default_factory=list)

    def header(self, name, value):
        self.headers.append((name, value))
        return self


class Problem(Exception):
    """A refusal, answered as RFC 9457 problem JSON."""

    def __init__(self, status, detail, **extra):
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.extra = extra

    def response(self):
        value = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        response = json_response(value, self.status, "application/problem+json")
        if "allow" in self.extra:
            response.header("Allow", ", ".join(self.extra["allow"]))
        return response


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: object
    body: bytes = b""
    # Filled in by whoever finds out, for the access log.
    user: str | None = None

    @property
    def media_type(self):
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()

    @property
    def wants_html(self):
        return "text/html" in self.headers.get("Accept", "")

    def query_value(self, name):
        values = parse_qs(self.query, keep_blank_values=True).get(name)
        return values[-1] if values else None

    def json(self):
        """The body as a JSON object; everything else is refused."""
        if self.media_type != JSON_TYPE and not self.media_type.endswith("+json"):
            raise Problem(415, f"send {JSON_TYPE}")
        try:
            value = json.loads(self.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise Problem(400, "the body is not JSON") from None
        if not isinstance(value, dict):
            raise Problem(422, "the body must be a JSON object")
        return value

    def fields(self):
        """The body of a JSON object or of an HTML form, whichever was sent."""
        if self.media_type != FORM_TYPE:
            return self.json()
        try:
            text = self.body.decode()
        except UnicodeDecodeError:
            raise Problem(400, "the form is not UTF-8") from None
        return {name: values[-1] for name, values in parse_qs(text).items()}


def _refuse_constant(name):
    # Python reads NaN and Infinity, JSON has neither.
    raise ValueError(name)


def json_response(value, status=200, media_type=JSON_TYPE):
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, body, [("Content-Type", media_type)])


def html_response(text, status=200):
    return Response(status, text.encode(), [("Content-Type", "text/html; charset=utf-8")])


def redirect(location):
    return Response(303, b"", [("Location", location)])


def etag_of(body):
    return '"' + hashlib.sha256(body).hexdigest()[:16] + '"'


def with_etag(request, response, etag=None):
    """Adds the ETag, and turns the answer into 304 when the client has it already."""
    etag = etag or etag_of(response.body)
    response.header("ETag", etag)
    if etag_matches(request.headers.get("If-None-Match"), etag):
        return not_modified(response)
    return response


def etag_matches(header, etag):
    """RFC 9110's weak comparison of an If-None-Match header."""
    if header is None:
        return False
    candidates = [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in candidates or etag in candidates


def not_modified(response):
    kept = [(name, value) for name, value in response.headers if name != "Content-Type"]
    return Response(304, b"", kept)
