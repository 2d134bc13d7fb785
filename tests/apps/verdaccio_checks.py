"""verdaccio, a registry: npm publishes, views, tags and installs, scoped names too."""
import base64
import json
import os
import pathlib
import stack
import subprocess
import wire

CONFIG = """
storage: {folder}/storage
auth: {{ htpasswd: {{ file: {folder}/htpasswd }} }}
packages: {{ '**': {{ access: $all, publish: $authenticated }} }}
server: {{ trustProxy: '127.0.0.1' }}
log: {{ type: stdout, level: warn }}
"""
ACCOUNT = json.dumps({"name": "someone", "password": "a long password"}).encode()
BASIC = base64.b64encode(b"someone:a long password").decode()
# More than one read of it, and in base64 still less than the registry's limit of 10 MB.
CONTENT = os.urandom(1 << 20)


class Client:
    """npm in a folder of its own, with an account of the registry."""

    def __init__(self, own, way, address):
        self.folder = own.folder / way.replace(" ", "-")
        self.folder.mkdir()
        registry, lines = f"http://localhost:{address}/", []
        if not isinstance(address, int):
            registry, lines = f"https://localhost:{address[0]}/", [f"cafile={address[1]}"]
        answer = wire.ask(address, "PUT", "/-/user/org.couchdb.user:someone", [
            "Content-Type: application/json", f"Authorization: Basic {BASIC}"], ACCOUNT)
        token = json.loads(answer.body)["token"]
        self.registry = registry
        (self.folder / ".npmrc").write_text("\n".join([
            f"registry={registry}", f"{registry.split(':', 1)[1]}:_authToken={token}",
            f"cache={self.folder}/cache", "audit=false", "fund=false", "update-notifier=false",
            *lines]))

    def npm(self, *arguments, folder=""):
        done = subprocess.run(
            ["npm", "--userconfig", self.folder / ".npmrc", *arguments], capture_output=True,
            cwd=self.folder / folder, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"npm {' '.join(arguments)}: {done.stderr[:600]}")
        return done.stdout.strip()

    def package(self, name):
        """Published, seen, tagged, and installed as it was."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "package.json").write_text(json.dumps({"name": name, "version": "1.2.3"}))
        (source / "content").write_bytes(CONTENT)
        self.npm("publish", folder="source")
        self.npm("dist-tag", "add", f"{name}@1.2.3", "beta")
        found = [f"{what} is {own!r}" for what, own, right in [
            ("the version", self.npm("view", name, "version"), "1.2.3"),
            ("the tag", self.npm("view", name, "dist-tags.beta"), "1.2.3"),
            ("the account", self.npm("whoami"), "someone")] if own != right]
        use = self.folder / "use"
        use.mkdir(exist_ok=True)
        (use / "package.json").write_text("{}")
        self.npm("install", name, folder="use")
        if (use / "node_modules" / name / "content").read_bytes() != CONTENT:
            found.append("what was installed is not what was published")
        place = json.loads((use / "package-lock.json").read_text())["packages"][
            f"node_modules/{name}"]["resolved"]
        if not place.startswith(self.registry):
            found.append(f"the registry says that the package is at {place}")
        return found


def checks(own):
    port = stack.free_port()
    folder = pathlib.Path(os.environ["SPILLWAY_NODE_FOLDER"])
    (own.folder / "config.yaml").write_text(CONFIG.format(folder=own.folder))
    own.run(["node", folder / "node_modules/verdaccio/bin/verdaccio", "--config",
             own.folder / "config.yaml", "--listen", f"127.0.0.1:{port}"], port)
    own.before(port)
    for way, address in own.ways():
        client = Client(own, way, address)
        for name in ["plain", "@scope/scoped"]:
            full = f"{name}-{way.replace(' ', '-')}"
            own.check(f"npm publishes, tags, views and installs {name}, {way}",
                      lambda client=client, full=full: client.package(full))
    own.same("a scoped package's page is the same", "GET", "/@scope%2fscoped-plain")
    own.same("the short form of it is the same", "GET", "/@scope%2fscoped-plain",
             ["Accept: application/vnd.npm.install-v1+json"])
    own.same("a package is the same", "GET",
             "/@scope/scoped-plain/-/scoped-plain-1.2.3.tgz")
    own.same("what is not there is the registry's 404", "GET", "/-/nothing", expect=404)


stack.main("verdaccio", checks)
