"""Express: ETag, gzip, a method's override, paths as they came, `trust proxy`."""
import json
import os
import stack
import wire


def conditional(own, address):
    tag = wire.ask(own.direct, "GET", "/").value("ETag")
    answer = wire.ask(address, "GET", "/", [f"If-None-Match: {tag}"])
    return "" if answer.code == 304 else f"{answer.status} for the ETag {tag}"


def scheme(address, wanted):
    seen = json.loads(wire.ask(address, "GET", "/seen").body)
    return "" if seen["protocol"] == wanted else f"the application sees {seen}"


def checks(own):
    port = stack.free_port()
    folder = os.environ["SPILLWAY_NODE_FOLDER"]
    own.run(["node", stack.HERE / "express/app.cjs"], port, PORT=str(port),
            NODE_PATH=f"{folder}/node_modules")
    own.before(port)
    own.same("a page is the same", "GET", "/")
    own.same("a compressed page is the same", "GET", "/", ["Accept-Encoding: gzip"])
    own.same("a POST is answered", "POST", "/thing", expect=201)
    own.same("a method's override reaches the application", "POST", "/thing",
             ["X-HTTP-Method-Override: PUT"])
    own.same("a client that waits for 100 (Continue) gets it", "POST", "/thing",
             ["Expect: 100-continue"], b"body", expect=201)
    own.same("early hints arrive as they were sent", "GET", "/hints", ingress=False)
    for target in ["/a%2Fb", "/a//b", '/x?q={"a":1}|^', "/100%25"]:
        own.same(f"the target {target} arrives as it was sent", "GET", target)
    own.same("bytes beyond ASCII are refused by Node.js itself", "GET", "/käse?q=grün", expect=400)
    for way, address in own.ways():
        own.check(f"a known ETag is answered 304, {way}",
                  lambda address=address: conditional(own, address))
    own.check("`trust proxy` sees http, plain", lambda: scheme(own.plain, "http"))
    own.check("`trust proxy` sees https, behind the ingress", lambda: scheme(own.ingress, "https"))
    own.cached_by_scheme(
        port, "`trust proxy` sees each scheme on a route that caches", "/seen", "/seen",
        lambda answer, scheme: json.loads(answer.body)["protocol"] == scheme)

    recipe = own.recipe("express", port)
    own.cached("a hashed file is kept and immutable", recipe, "/assets/index-BqL7urjy.js",
               control="immutable")
    own.cached("data is kept", recipe, "/api/items")
    own.cached("visitors without a session share a page", recipe, "/", ["Cookie: _ga=1"])
    own.cached("who has a session gets a page of their own", recipe, "/",
               ["Cookie: connect.sid=x"], "bypass-cookie")

    address = own.jobs("express", port)
    login = wire.ask(address, "POST", "/login", ["Origin: http://localhost"])
    fields = ["Origin: http://localhost", f"Cookie: {login.value('Set-Cookie').split(';')[0]}"]
    own.offloaded_form("a slow form ends where its handler redirects", address, "/import", fields,
                       b"name=may", lambda answer: answer.value("Location") == "/imports/ann")
    own.offloaded_report("a slow report is fetched when it is done", address, "/api/reports",
                         fields, b'{"years": 3}',
                         lambda answer: json.loads(answer.body) == {"of": "ann", "years": 3})


stack.main("Express", checks)
