"""Who is asking: a signed cookie that any process with the same secret accepts."""

import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie

from .messages import FORM_TYPE, Problem, json_response, redirect

COOKIE = "session"
LIFETIME = 12 * 3600

# A demonstration has demonstration users; a real application would keep salted hashes.
USERS = {"alice": "alice", "bob": "bob"}


class Sessions:
    def __init__(self, secret):
        self._secret = secret.encode()

    def issue(self, user):
        payload = f"{user}.{int(time.time()) + LIFETIME}"
        return f"{payload}.{self._sign(payload)}"

    def user_of(self, request):
        """The user of the request's session cookie, or None."""
        try:
            morsel = SimpleCookie(request.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return None
        if morsel is None:
            return None
        payload, _, signature = morsel.value.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(payload).encode()):
            return None
        user, _, expires = payload.rpartition(".")
        if int(expires) < time.time():
            return None
        request.user = user
        return user

    def _sign(self, payload):
        return hmac.new(self._secret, payload.encode(), hashlib.sha256).hexdigest()


def require_session(app, request):
    user = app.sessions.user_of(request)
    if user is None:
        raise Problem(401, "log in first: POST /login")
    return user


def caller(app, request):
    """The user a request acts for. Like many applications behind a proxy, this one takes
    the proxy's word for it when there is an X-User-Id header."""
    named = request.headers.get("X-User-Id", "").strip()
    if named:
        request.user = named
        return named
    return app.sessions.user_of(request)


def post_login(app, request):
    fields = request.fields()
    user, password = str(fields.get("user", "")), str(fields.get("password", ""))
    if not hmac.compare_digest(USERS.get(user, "").encode(), password.encode()) or not password:
        if request.media_type == FORM_TYPE:
            return redirect("/?notice=wrong-password")
        raise Problem(401, "no such user, or another password")
    request.user = user
    answer = redirect("/") if request.media_type == FORM_TYPE else json_response({"user": user})
    return answer.header("Set-Cookie", _cookie(app.sessions.issue(user), LIFETIME))


def post_logout(app, request):
    answer = redirect("/") if request.media_type == FORM_TYPE else json_response({"user": None})
    return answer.header("Set-Cookie", _cookie("", 0))


def get_session(app, request):
    user = require_session(app, request)
    answer = json_response({"user": user}).header("X-User-Id", user)
    return answer.header("Cache-Control", "private, no-store")


def _cookie(value, max_age):
    return f"{COOKIE}={value}; Max-Age={max_age}; HttpOnly; SameSite=Lax; Path=/"
