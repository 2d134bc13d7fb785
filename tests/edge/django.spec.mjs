// Django's own check of where a form comes from, through edge and sidecar over HTTPS, where the edge's origin
// has another host.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { startProgram } from "../support/spillway.mjs";
import { root, startEdge, until } from "./support.mjs";

const PACKAGES = ["Django==5.2.19", "whitenoise==6.12.0", "gunicorn==27.0.1"];
const KEYS = "2026-11=new-new-new-new-new-new-new-new-new";
const VISITOR = "app.example"; // `canonical.to` of tests/edge/routes.toml
const PASSWORD = "a long password";

const python = path.join(root, "target/edge-tests/python/bin/python");
let folder, environment, django, sidecar, edge;

before(async () => {
  if (!existsSync(path.join(root, "target/edge-tests/python/bin/gunicorn"))) {
    run("python3", ["-m", "venv", path.join(root, "target/edge-tests/python")]);
    run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...PACKAGES]);
  }
  folder = mkdtempSync(path.join(tmpdir(), "spillway-django-"));
  environment = {
    ...process.env,
    DJANGO_FOLDER: folder,
    DJANGO_SETTINGS_MODULE: "django_site.settings",
    DJANGO_SUPERUSER_PASSWORD: PASSWORD,
    PYTHONPATH: path.join(root, "tests/apps"),
    PYTHONDONTWRITEBYTECODE: "1",
  };
  run(python, ["-m", "django", "migrate", "--verbosity=0"]);
  run(python, ["-m", "django", "collectstatic", "--noinput", "--verbosity=0"]);
  run(python, ["-m", "django", "createsuperuser", "--noinput", "--username=root", "--email=a@b.example"]);
  const port = await free();
  const serve = ["-m", "gunicorn", "--bind", `127.0.0.1:${port}`, "django.core.wsgi:get_wsgi_application()"];
  django = spawn(python, serve, { env: environment, stdio: "ignore" });
  const app = `http://127.0.0.1:${port}`;
  await until(() => fetch(app, { redirect: "manual" }).then(() => true, () => false), 30_000);
  const routes = path.join(folder, "routes.toml");
  writeFileSync(routes, `[edge]\nhosts = ["${VISITOR}"]\nrequire_signature = true\n`);
  const args = ["proxy", "--listen", "127.0.0.1:0", "--app", app, "--routes", routes];
  sidecar = await startProgram(args, { SPILLWAY_EDGE_KEYS: KEYS });
  const vars = { SPILLWAY_EDGE_KEYS: KEYS };
  edge = await startEdge(`http://${sidecar.listen}`, vars, { secure: true });
});
after(async () => {
  await edge?.stop();
  sidecar?.child.kill("SIGKILL");
  django?.kill("SIGKILL");
  if (folder) rmSync(folder, { recursive: true, force: true });
});

function run(program, args) {
  const done = spawnSync(program, args, { env: environment ?? process.env, encoding: "utf8" });
  assert.equal(done.status, 0, `${program} ${args.join(" ")}: ${done.error ?? done.stderr}`);
}

/** A port that is free now. */
function free() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const visit = (target, options = {}) =>
  edge.send(target, { ...options, headers: { host: VISITOR, ...options.headers } });

test("a login of Django's admin is taken as coming from the visitor's own host", async () => {
  const page = await visit("/admin/login/");
  assert.equal(page.status, 200, "neither redirected to https for ever nor refused as another host");
  const cookie = page.headers["set-cookie"][0].split(";")[0];
  const token = page.body.match(/name="csrfmiddlewaretoken" value="([^"]+)"/)[1];
  const form = new URLSearchParams({
    csrfmiddlewaretoken: token,
    username: "root",
    password: PASSWORD,
    next: "/admin/",
  });
  const headers = { cookie, "content-type": "application/x-www-form-urlencoded" };
  const from = { origin: `https://${VISITOR}`, referer: `https://${VISITOR}/admin/login/` };
  const body = form.toString();
  const done = await visit("/admin/login/", { method: "POST", body, headers: { ...headers, ...from } });
  assert.equal(done.status, 302, done.body);
  assert.equal(done.headers.location, "/admin/");
  const elsewhere = { origin: "https://evil.example", referer: "https://evil.example/" };
  const forged = await visit("/admin/login/", { method: "POST", body, headers: { ...headers, ...elsewhere } });
  assert.equal(forged.status, 403, "Django's check is still one");
});
