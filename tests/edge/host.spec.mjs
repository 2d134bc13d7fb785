// An origin on another host: the app behind edge and sidecar sees the host that the visitor asked, and says
// so, and nobody but the edge can tell it another one.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { startProgram } from "../support/spillway.mjs";
import { cacheStatus, send, startEdge, startOrigin } from "./support.mjs";

const SECRET = "new-new-new-new-new-new-new-new-new";
const KEYS = `2026-11=${SECRET}`;
const VISITOR = "app.example"; // `canonical.to` of tests/edge/routes.toml
const RULES = `
[edge]
hosts = ["${VISITOR}"]
[[route]]
name  = "visitors"
match = { path = "/catalogue/{*page}", hosts = ["${VISITOR}"], methods = ["GET"] }
cache = { sidecar = "1h" }
`;

let app, sidecar, edge, folder, origin;

before(async () => {
  app = await startOrigin();
  folder = mkdtempSync(path.join(tmpdir(), "spillway-host-"));
  const routes = path.join(folder, "routes.toml");
  writeFileSync(routes, RULES);
  const args = ["proxy", "--listen", "127.0.0.1:0", "--app", app.url, "--routes", routes];
  sidecar = await startProgram(args, { SPILLWAY_EDGE_KEYS: KEYS });
  origin = `http://${sidecar.listen}`;
  edge = await startEdge(origin, { SPILLWAY_EDGE_KEYS: KEYS });
});
after(async () => {
  await edge?.stop();
  sidecar?.child.kill("SIGKILL");
  await app?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

const visit = (target, options = {}) =>
  edge.send(target, { ...options, headers: { host: VISITOR, ...options.headers } });

test("the app sees the host and the scheme that the visitor asked", async () => {
  await visit("/page");
  const { headers } = app.last();
  assert.equal(headers.host, VISITOR);
  assert.equal(headers["x-forwarded-host"], VISITOR);
  assert.equal(headers["x-forwarded-proto"], "http");
  const ours = Object.keys(headers).filter((name) => name.startsWith("x-spillway"));
  assert.deepEqual(ours, []);
});

test("it is restored before a route is chosen, and is part of the key", async () => {
  app.answer("/catalogue/shoes", 200, { "content-type": "text/plain" }, "shoes");
  assert.match((await visit("/catalogue/shoes")).headers["cache-status"], /spillway-sidecar; fwd=uri-miss; stored/);
  const other = await edge.send("/catalogue/shoes", { headers: { host: "other.example" } });
  assert.doesNotMatch(other.headers["cache-status"], /sidecar/, "no route of that host");
  assert.equal(app.last().headers.host, new URL(origin).host, "a host that no rule names is not restored");
});

test("what the app says of the origin's own host is about the visitor's", async () => {
  const own = new URL(origin).host;
  app.answer("/moved", 302, {
    location: `http://${own}/there?a=b`,
    "set-cookie": [`a=1; Domain=${new URL(origin).hostname}; Path=/`, "b=2; Domain=example; Path=/"],
  });
  const answer = await visit("/moved");
  assert.equal(answer.headers.location, `http://${VISITOR}/there?a=b`);
  assert.deepEqual(answer.headers["set-cookie"], ["a=1; Path=/", "b=2; Domain=example; Path=/"]);
  for (const location of ["/there", "https://elsewhere.example/x", `http://${own}.example/`]) {
    app.answer("/moved", 302, { location });
    assert.equal((await visit("/moved")).headers.location, location);
  }
});

/** What the edge would send for this visitor; `more` in its place. */
function signed(target, visitor, more = {}) {
  const { created = Math.floor(Date.now() / 1000), covered = true } = more;
  const host = new URL(origin).host;
  const fields = covered ? ' "x-spillway-host" "x-spillway-scheme"' : "";
  const parameters =
    `("@method" "@authority" "@path" "@query"${fields});created=${created};expires=${created + 60}` +
    `;nonce="${crypto.randomUUID()}";keyid="2026-11"`;
  const base = [
    '"@method": GET',
    `"@authority": ${host}`,
    `"@path": ${target}`,
    '"@query": ?',
    ...(covered ? [`"x-spillway-host": ${visitor}`, '"x-spillway-scheme": https'] : []),
    `"@signature-params": ${parameters}`,
  ].join("\n");
  const mac = createHmac("sha256", SECRET).update(base).digest("base64");
  return {
    "signature-input": `spillway=${parameters}`,
    signature: `spillway=:${mac}:`,
    "x-spillway-host": visitor,
    "x-spillway-scheme": "https",
  };
}

for (const [what, headers, seen] of [
  ["a signed one", () => signed("/who", VISITOR), VISITOR],
  ["one without a signature", () => ({ "x-spillway-host": VISITOR, "x-spillway-scheme": "https" })],
  ["an expired one", () => signed("/who", VISITOR, { created: Math.floor(Date.now() / 1000) - 600 })],
  ["one beside a signature that does not cover it", () => signed("/who", VISITOR, { covered: false })],
  ["one that was changed in a copy", () => ({ ...signed("/who", "www.example"), "x-spillway-host": VISITOR })],
  ["a scheme that was changed in a copy", () => ({ ...signed("/who", VISITOR), "x-spillway-scheme": "http" })],
  ["a signed one that no rule names", () => signed("/who", "evil.example")],
  ["X-Forwarded-Host", () => ({ "x-forwarded-host": VISITOR })],
]) {
  test(`${what} ${seen ? "is" : "is not"} taken for the visitor's host`, async () => {
    const host = new URL(origin).host;
    const answer = await send(new URL(origin), "/who", { headers: { host, ...headers() } });
    assert.equal(answer.status, 404, answer.body);
    const asked = app.last();
    assert.equal(asked.headers.host, seen ?? host);
    if (seen) assert.equal(asked.headers["x-forwarded-proto"], "https");
    assert.equal(asked.headers["x-spillway-host"], undefined);
  });
}
