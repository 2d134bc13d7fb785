"""FastAPI: data for all, data for the bearer of a token, files of a build tool."""
import json
import stack
import sys
import wire


def bearers(address):
    found = []
    for token in ["ann", "bob"]:
        answer = wire.ask(address, "GET", "/api/me", [f"Authorization: Bearer {token}"])
        if f"Bearer {token}".encode() not in answer.body:
            found.append(f"{token} is told {answer.body}")
    return found


def checks(own):
    port = stack.free_port()
    own.run([sys.executable, "-m", "uvicorn", "--port", port, "--app-dir", stack.HERE,
             "fastapi_app:app"], port)
    own.before(port)
    own.same("data is the same", "GET", "/api/items")
    own.same("the documentation is the same", "GET", "/docs")
    own.same("what is not there is the application's", "GET", "/nothing", expect=404)
    recipe = own.recipe("fastapi", port)
    own.cached("a file is kept and immutable", recipe, "/assets/index-BqL7urjy.js",
               control="immutable")
    own.cached("data is kept", recipe, "/api/items", ["Cookie: session=1"])
    own.cached("the bearer of a token has an answer kept", recipe, "/api/me",
               ["Authorization: Bearer ann"])
    own.check("each bearer gets that bearer's answer", lambda: bearers(recipe))

    jobs(own, own.jobs("fastapi", port))


def jobs(own, address):
    """The rules that docs/frameworks.md gives for what is slow."""
    login = wire.ask(address, "POST", "/login", ["Origin: http://localhost"])
    fields = ["Origin: http://localhost", f"Cookie: {login.value('Set-Cookie').split(';')[0]}"]
    own.offloaded_form("a slow form ends where its endpoint redirects", address, "/import", fields,
                       b"name=may", lambda answer: answer.value("Location") == "/imports/ann")
    of = lambda user: lambda answer: json.loads(answer.body) == {"of": user, "years": 3}
    own.offloaded_report("a slow report for a browser is fetched when it is done", address,
                         "/api/reports", fields, b'{"years": 3}', of("ann"))
    own.offloaded_report("a slow report for the bearer of a token is fetched when it is done",
                         address, "/api/reports", ["Authorization: Bearer bob"], b'{"years": 3}',
                         of("Bearer bob"))


stack.main("FastAPI", checks)
