"""FastAPI: data for all, data for the bearer of a token, files of a build tool."""
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


stack.main("FastAPI", checks)
