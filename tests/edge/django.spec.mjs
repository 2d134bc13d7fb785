// Django's own check of where a form comes from, through edge and sidecar over HTTPS, where the edge's origin
// has another host.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { PASSWORD, startDjango } from "../support/django.mjs";
import { startProgram } from "../support/spillway.mjs";
import { root, startEdge } from "./support.mjs";

const KEYS = "2026-11=new-new-new-new-new-new-new-new-new";
const VISITOR = "app.example"; // `canonical.to` of tests/edge/routes.toml

let django, sidecar, edge;

before(async () => {
  django = await startDjango(root);
  const routes = path.join(django.folder, "routes.toml");
  writeFileSync(routes, `[edge]\nhosts = ["${VISITOR}"]\nrequire_signature = true\n`);
  const args = ["proxy", "--listen", "127.0.0.1:0", "--app", django.url, "--routes", routes];
  sidecar = await startProgram(args, { SPILLWAY_EDGE_KEYS: KEYS });
  const vars = { SPILLWAY_EDGE_KEYS: KEYS };
  edge = await startEdge(`http://${sidecar.listen}`, vars, { secure: true });
});
after(async () => {
  await edge?.stop();
  sidecar?.child.kill("SIGKILL");
  django?.stop();
});

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
