// The Django application under test (tests/apps/django_site), served by gunicorn.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

const PACKAGES = ["Django==5.2.19", "whitenoise==6.12.0", "gunicorn==27.0.1"];
/** Of the user `root`. */
export const PASSWORD = "a long password";
const PATIENCE = 30_000;

/** Its address, its folder, and how it is stopped. It is installed under `root` at first. */
export async function startDjango(root, variables = {}) {
  const home = path.join(root, "target/edge-tests/python");
  const python = path.join(home, "bin/python");
  const folder = mkdtempSync(path.join(tmpdir(), "spillway-django-"));
  const env = {
    ...process.env,
    DJANGO_FOLDER: folder,
    DJANGO_SETTINGS_MODULE: "django_site.settings",
    DJANGO_SUPERUSER_PASSWORD: PASSWORD,
    PYTHONPATH: path.join(root, "tests/apps"),
    PYTHONDONTWRITEBYTECODE: "1",
    ...variables,
  };
  const run = (program, args) => {
    const done = spawnSync(program, args, { env, encoding: "utf8" });
    assert.equal(done.status, 0, `${program} ${args.join(" ")}: ${done.error ?? done.stderr}`);
  };
  if (!existsSync(path.join(home, "bin/gunicorn"))) {
    run("python3", ["-m", "venv", home]);
    run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...PACKAGES]);
  }
  run(python, ["-m", "django", "migrate", "--verbosity=0"]);
  run(python, ["-m", "django", "collectstatic", "--noinput", "--verbosity=0"]);
  run(python, ["-m", "django", "createsuperuser", "--noinput", "--username=root", "--email=a@b.example"]);
  const port = await free();
  const serve = ["-m", "gunicorn", "--bind", `127.0.0.1:${port}`, "--threads", "4", "django.core.wsgi:get_wsgi_application()"];
  const server = spawn(python, serve, { env, stdio: "ignore" });
  const url = `http://127.0.0.1:${port}`;
  await answers(url);
  return {
    url,
    folder,
    stop() {
      server.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function answers(url) {
  const end = Date.now() + PATIENCE;
  while (!(await fetch(url, { redirect: "manual" }).then(() => true, () => false))) {
    assert.ok(Date.now() < end, "Django does not answer");
    await new Promise((done) => setTimeout(done, 50));
  }
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
