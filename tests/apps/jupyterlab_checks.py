"""JupyterLab: files, and a kernel and a terminal over WebSocket."""
import json
import re
import ssl
import stack
import sys
import uuid
import wire

from websockets.sync.client import connect

TOKEN = ["Authorization: token secret"]
JSON = [*TOKEN, "Content-Type: application/json"]
SCRIPT = re.compile(rb'src="(/static/lab/main[^"]+)"')
WAIT = 20


def channel(address, path):
    secure, url = None, f"ws://127.0.0.1:{address}{path}"
    if not isinstance(address, int):
        url = f"wss://localhost:{address[0]}{path}"
        secure = ssl.create_default_context(cafile=address[1])
    return connect(url, ssl=secure, proxy=None,
                   additional_headers={"Authorization": "token secret"})


def message(kind, content):
    return json.dumps({
        "channel": "shell", "parent_header": {}, "metadata": {}, "content": content,
        "header": {"msg_id": uuid.uuid4().hex, "session": uuid.uuid4().hex, "username": "",
                   "version": "5.3", "msg_type": kind}})


def kernel(address):
    """Each output is read before the kernel goes on: it waits for an answer to its question."""
    made = json.loads(wire.ask(address, "POST", "/api/kernels", JSON, b'{"name":"python3"}').body)
    heard = []
    with channel(address, f"/api/kernels/{made['id']}/channels") as socket:
        socket.send(message("execute_request", {
            "code": "print(6 * 7)", "silent": False, "store_history": False,
            "user_expressions": {}, "allow_stdin": False}))
        while not heard or heard[-1] != "idle":
            answer = json.loads(socket.recv(WAIT))
            if answer["msg_type"] == "stream":
                heard.append(answer["content"]["text"])
            elif heard and answer["msg_type"] == "status":
                heard.append(answer["content"]["execution_state"])
    ended = wire.ask(address, "DELETE", f"/api/kernels/{made['id']}", TOKEN).code
    return "" if (heard, ended) == (["42\n", "idle"], 204) else f"{heard}, {ended}"


def terminal(address):
    name = json.loads(wire.ask(address, "POST", "/api/terminals", JSON, b"{}").body)["name"]
    heard = ""
    with channel(address, f"/terminals/websocket/{name}") as socket:
        socket.send(json.dumps(["stdin", "echo $((6 * 7))ok\r"]))
        while "42ok" not in heard:
            kind, *rest = json.loads(socket.recv(WAIT))
            heard += rest[0] if kind == "stdout" else ""
    ended = wire.ask(address, "DELETE", f"/api/terminals/{name}", TOKEN).code
    return "" if ended == 204 else f"its end is answered {ended}"


def file(address, name):
    target = f"/api/contents/{name}"
    text = "Grün\n" * 50_000
    body = json.dumps({"type": "file", "format": "text", "content": text}).encode()
    made = wire.ask(address, "PUT", target, JSON, body)
    read = json.loads(wire.ask(address, "GET", target, TOKEN).body)["content"]
    gone = wire.ask(address, "DELETE", target, TOKEN)
    codes = (made.code, gone.code)
    return "" if codes == (201, 204) and read == text else f"{codes}, {len(read)} characters"


def checks(own):
    port = stack.free_port()
    own.run([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
             "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
             "--IdentityProvider.token=secret", f"--ServerApp.root_dir={own.folder}"],
            port, HOME=str(own.folder))
    own.before(port)
    own.same("a visitor without the token is sent to the login", "GET", "/lab", expect=302)
    own.same("the versions are the same", "GET", "/api", TOKEN)
    page = wire.ask(port, "GET", "/lab", TOKEN).body
    script = SCRIPT.search(page)[1].decode()
    own.same("a script is the same", "GET", script, TOKEN)
    own.same("what is not there is the application's 404", "GET", "/static/nothing", TOKEN,
             expect=404)
    own.same("the list of kernels is the same", "GET", "/api/kernelspecs", TOKEN)
    own.same("a POST without its token for forms is refused by the application", "POST",
             "/api/contents", ["Cookie: _xsrf=a"], b"{}", expect=403)
    own.same("bytes beyond ASCII reach the application, which has no such file", "GET",
             '/api/contents/käse "grün"|.txt?content=0'.replace(" ", "%20"), TOKEN, expect=404)
    for number, (way, address) in enumerate(own.ways()):
        own.check(f"a file is written, read and deleted, {way}",
                  lambda address=address, number=number: file(address, f"file {number}.txt"
                                                              .replace(" ", "%20")))
        own.check(f"a kernel answers, {way}", lambda address=address: kernel(address))
        own.check(f"a terminal answers, {way}", lambda address=address: terminal(address))


stack.main("JupyterLab", checks)
