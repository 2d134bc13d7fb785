"""Django's admin behind https only: redirects, static files, a login with its CSRF token."""
import json
import os
import re
import stack
import subprocess
import sys
import urllib.parse
import wire

# What an ingress says; a client may not.
HTTPS = ["X-Forwarded-Proto: https"]
STYLES = "/static/admin/css/base.css"
TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')


def manage(environment, *arguments):
    subprocess.run([sys.executable, "-m", "django", *arguments], env=environment, check=True,
                   stdout=subprocess.DEVNULL)


def login(address):
    """The status and place after the login, and the admin's page then."""
    page = wire.ask(address, "GET", "/admin/login/")
    cookie = page.value("Set-Cookie").split(";")[0]
    form = urllib.parse.urlencode({
        "csrfmiddlewaretoken": TOKEN.search(page.body)[1].decode(), "username": "root",
        "password": "a long password", "next": "/admin/"}).encode()
    done = wire.ask(address, "POST", "/admin/login/", [
        f"Cookie: {cookie}", "Content-Type: application/x-www-form-urlencoded",
        "Origin: https://localhost", "Referer: https://localhost/admin/login/"], form)
    cookies = "; ".join(one.split(";")[0] for one in done.values("Set-Cookie"))
    inside = wire.ask(address, "GET", "/admin/", [f"Cookie: {cookies}"])
    return done, inside


def logged_in(own):
    (one, page), (two, same_page) = login(own.control), login(own.ingress)
    found = wire.differences(one, two)
    # Each page has a token of its own.
    found += wire.differences(page, same_page, body=False)
    if b"Site administration" not in same_page.body:
        found.append(f"the page after the login is {same_page.status}")
    return found


def page(own, target, *fields):
    direct, through = (wire.ask(way, "GET", target, fields) for way in (own.control, own.ingress))
    found = wire.differences(direct, through)
    return found + ([] if direct.code == 200 else [f"the application answers {direct.status}"])


def recipe(own, address, folder):
    """The rules that docs/frameworks.md gives."""
    names = json.loads((folder / "static/staticfiles.json").read_text())["paths"]
    hashed = f"/static/{names['admin/css/base.css']}"
    own.cached("a hashed file is kept and immutable", address, hashed, HTTPS, control="immutable")
    own.cached("data is kept", address, "/api/items", HTTPS)
    visitor = [*HTTPS, "Cookie: _ga=1"]
    own.cached("visitors without a session share a page", address, "/news/", visitor)
    own.cached("who has a session gets a page of their own", address, "/news/",
               [*HTTPS, "Cookie: _ga=1; sessionid=x"], "bypass-cookie")
    own.cached("a page with a form is never shared", address, "/contact/", visitor, "uncacheable")


def jobs(own, address):
    """The rules that docs/frameworks.md gives for what is slow."""
    page = wire.ask(address, "GET", "/accounts/login/", HTTPS)
    cookie = page.value("Set-Cookie").split(";")[0]
    origin = [*HTTPS, "Origin: https://localhost"]
    login = urllib.parse.urlencode({
        "csrfmiddlewaretoken": TOKEN.search(page.body)[1].decode(), "username": "root",
        "password": "a long password"}).encode()
    done = wire.ask(address, "POST", "/accounts/login/", [
        *origin, f"Cookie: {cookie}", "Content-Type: application/x-www-form-urlencoded"], login)
    cookies = "; ".join(one.split(";")[0] for one in done.values("Set-Cookie"))
    fields = [*origin, f"Cookie: {cookies}"]
    form = wire.ask(address, "GET", "/import/", fields)
    token = TOKEN.search(form.body)[1].decode()
    filled = lambda name: urllib.parse.urlencode(
        {"csrfmiddlewaretoken": token, "name": name}).encode()
    own.offloaded_form("a slow form with its CSRF token ends where the view redirects", address,
                       "/import/", fields, filled("may"),
                       lambda answer: answer.value("Location") == "/imports/may/")
    own.offloaded_form("a form with a fault is shown again", address, "/import/", fields,
                       filled("a very long name"),
                       lambda answer: answer.code == 422 and b"at most 10 characters" in answer.body)
    own.offloaded_form("a form with a forged token is refused by the view", address, "/import/",
                       fields, b"csrfmiddlewaretoken=x&name=may", lambda answer: answer.code == 403)
    own.offloaded_report("a slow report is fetched when it is done", address, "/api/reports/",
                         [*fields, f"X-CSRFToken: {token}"], b'{"years": 3}',
                         lambda answer: json.loads(answer.body) == {"of": "root", "years": 3})
    stranger = wire.ask(address, "POST", "/import/", [*HTTPS, "Accept: text/html"], b"x")
    own.check("who is not logged in is sent to the login page",
              "" if stranger.value("Location") == "/accounts/login/" else (
                  f"the answer is {stranger.status} {stranger.lines}"))


def checks(own):
    folder = own.folder / "django"
    folder.mkdir()
    environment = {"DJANGO_FOLDER": str(folder), "DJANGO_SETTINGS_MODULE": "django_site.settings",
                   "PYTHONPATH": str(stack.HERE), "DJANGO_SUPERUSER_PASSWORD": "a long password"}
    everything = {**os.environ, **environment}
    manage(everything, "migrate", "--verbosity=0")
    manage(everything, "collectstatic", "--noinput", "--verbosity=0")
    manage(everything, "createsuperuser", "--noinput", "--username=root", "--email=a@b.example")
    port = stack.free_port()
    own.run([sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4",
             "django.core.wsgi:get_wsgi_application()"], port, **environment)
    own.before(port)
    redirect = lambda: wire.differences(*(wire.ask(way, "GET", "/admin/login/")
                                          for way in (own.direct, own.plain)))
    own.check("plain http is redirected to https as without the sidecar", redirect)
    forged = lambda: "" if wire.ask(own.plain, "GET", "/admin/login/", HTTPS).code == 301 else (
        "a client that nobody named was believed")
    own.check("a client that is no named proxy is not believed that it came by https", forged)
    ended = lambda: "" if (code := wire.ask(own.ingress, "GET", "/admin/login/").code) == 200 else (
        f"the page is answered {code}")
    own.check("SECURE_SSL_REDIRECT does not redirect for ever behind the ingress", ended)
    own.check("a static file is the same", lambda: page(own, STYLES))
    own.check("a compressed static file is the same",
              lambda: page(own, STYLES, "Accept-Encoding: gzip"))
    own.cached_by_scheme(
        port, "SECURE_SSL_REDIRECT redirects http, and only http, on a route that caches", STYLES,
        "/static/{*file}",
        lambda answer, scheme: answer.code == (200 if scheme == "https" else 301))
    recipe(own, own.recipe("django", port), folder)
    own.check("the admin takes a login with its CSRF token", lambda: logged_in(own))
    jobs(own, own.jobs("django", port))


stack.main("Django", checks)
