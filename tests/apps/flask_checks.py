"""Flask under gunicorn: session, redirect, HEAD, range, condition."""
import stack
import sys
import wire

FORM = ["Content-Type: application/x-www-form-urlencoded"]


def session(address):
    answer = wire.ask(address, "POST", "/login", FORM, b"name=J%C3%BCrgen")
    cookie = answer.value("Set-Cookie").split(";")[0]
    body = wire.ask(address, "GET", answer.value("Location"), [f"Cookie: {cookie}"]).body.decode()
    return "" if body == "hello Jürgen\n" else f"the page after the login says {body!r}"


def checks(own):
    port = stack.free_port()
    own.run([sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4",
             "--chdir", stack.HERE, "flask_app:app"], port)
    own.before(port)
    own.same("a page is the same", "GET", "/")
    own.same("HEAD has the fields of GET and no body", "HEAD", "/file")
    own.same("a file is the same", "GET", "/file")
    own.same("a range is answered with that part", "GET", "/file", ["Range: bytes=100-199"],
             expect=206)
    own.same("a range beyond the end is refused by the application", "GET", "/file",
             ["Range: bytes=99999-"], expect=416)
    own.same("a known ETag is answered 304", "GET", "/file", ['If-None-Match: "v1"'], expect=304)
    own.same("a form is answered by a redirect with a session", "POST", "/login", FORM,
             b"name=a", expect=302)
    own.same("a method that is not there is the application's 405", "DELETE", "/", expect=405)
    for target in ["/raw/a%2Fb", '/raw/x?q={"a":1}|^']:
        own.same(f"the target {target} arrives as it was sent", "GET", target)
    own.same("bytes beyond ASCII are refused by gunicorn itself", "GET", "/raw/käse?q=grün",
             expect=400)
    for way, address in own.ways():
        own.check(f"a session lives on, {way}", lambda address=address: session(address))


stack.main("Flask", checks)
