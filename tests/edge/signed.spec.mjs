// What the edge signs, before a real sidecar that refuses everything else.
import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { startProgram } from "../support/spillway.mjs";
import { startEdge, startOrigin, startWorker } from "./support.mjs";

const secret = "new-new-new-new-new-new-new-new-new";
const keys = `2026-11=${secret}\n2026-10=old-old-old-old-old-old-old-old-old`;
const rules = `
[edge]
require_signature = true
[[route]]
name  = "catalogue"
match = { path = "/catalogue/{*page}", methods = ["GET"] }
cache = { sidecar = "1h" }
`;

let app, sidecar, edge, folder;

before(async () => {
  app = await startOrigin();
  folder = mkdtempSync(path.join(tmpdir(), "spillway-signed-"));
  const routes = path.join(folder, "routes.toml");
  writeFileSync(routes, rules);
  const args = ["proxy", "--listen", "127.0.0.1:0", "--app", app.url, "--routes", routes];
  sidecar = await startProgram(args, { SPILLWAY_EDGE_KEYS: keys });
  edge = await startEdge(`http://${sidecar.listen}`, { SPILLWAY_EDGE_KEYS: keys });
});
after(async () => {
  await edge?.stop();
  sidecar?.child.kill("SIGKILL");
  await app?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

for (const [method, target] of [
  ["GET", "/"],
  ["GET", "/page?b=2&a=%20&c"],
  ["GET", "/caf%C3%A9/a;b=c,d?q=%27x%27&e=caf%C3%A9"],
  ["GET", "/%61?x={y}|z"],
  ["HEAD", "/page?"],
  ["POST", "/form?x=1"],
  ["DELETE", "/items/1"],
  ["GET", "/catalogue/shoes"],
]) {
  test(`the sidecar takes ${method} ${target} as the edge's, and the app sees no signature`, async () => {
    const answer = await edge.send(target, { method, body: method === "POST" ? "a=b" : undefined });
    assert.equal(answer.status, 404, "the app's own answer");
    const { headers } = app.last();
    assert.equal(headers.signature, undefined);
    assert.equal(headers["signature-input"], undefined);
  });
}

test("the same request without the edge is refused by name", async () => {
  const answer = await fetch(`http://${sidecar.listen}/page`);
  assert.equal(answer.status, 401);
  assert.equal((await answer.json()).type, "/_spillway/problems/signature-missing");
});

test("a WebSocket opens through edge and sidecar", async () => {
  app.onUpgrade((request, socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash("sha1").update(key).digest("base64");
    socket.write(`Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.write(Buffer.from([0x81, 2, ...Buffer.from("hi")])); // one unmasked text frame
  });
  const client = new WebSocket(new URL("/socket", edge.url.href.replace("http", "ws")));
  const message = await new Promise((resolve, reject) => {
    client.onmessage = ({ data }) => resolve(data);
    client.onerror = () => reject(new Error("the WebSocket did not open"));
  });
  client.close();
  assert.equal(message, "hi");
});

/** RFC 9421 by hand: what must have been signed for these parameters. */
function signature({ method, url, headers }, parameters) {
  const [pathname, query = ""] = url.split("?");
  const base = [
    `"@method": ${method}`,
    `"@authority": ${headers.host}`,
    `"@path": ${pathname}`,
    `"@query": ?${query}`,
    `"@signature-params": ${parameters}`,
  ].join("\n");
  return createHmac("sha256", secret).update(base).digest("base64");
}

test("a signature is that of the RFC, new for each request, below a client's own", async (context) => {
  const origin = await startOrigin();
  context.after(() => origin.stop());
  const signing = await startEdge(origin.url, { SPILLWAY_EDGE_KEYS: keys });
  // Also where an assertion fails: a Worker that is left keeps the whole run from its end.
  context.after(() => signing.stop());
  const theirs = 'keyId="https://a.example/k",headers="date",signature="x="';
  const nonces = new Set();
  for (const target of ["/a", "/a", "/b?c=d"]) {
    // A host that the rules do not name: of one that they name the edge signs that, too (host.spec.mjs).
    await signing.send(target, { headers: { host: "plain.example", signature: theirs } });
    const asked = origin.last();
    const parameters = asked.headers["signature-input"].replace(/^spillway=/, "");
    const form = /^\("@method" "@authority" "@path" "@query"\);created=(\d+);expires=(\d+);nonce="([0-9a-f-]{36})";keyid="2026-11"$/;
    const [, created, expires, nonce] = parameters.match(form) ?? assert.fail(parameters);
    assert.equal(expires - created, 60);
    assert.ok(Math.abs(created - Date.now() / 1000) < 60);
    nonces.add(nonce);
    const wanted = `${theirs}, spillway=:${signature(asked, parameters)}:`;
    assert.equal(asked.headers.signature, wanted);
  }
  assert.equal(nonces.size, 3);
});

test("without keys nothing is signed; with keys that can't be read nothing is answered", async () => {
  const origin = await startOrigin();
  const vars = { SPILLWAY_ORIGIN: origin.url };
  const unsigned = await startWorker({ name: "unsigned", main: edge.main, vars });
  await unsigned.send("/a");
  assert.equal(origin.last().headers["signature-input"], undefined);
  await unsigned.stop();
  const weak = { ...vars, SPILLWAY_EDGE_KEYS: "2026-11=short" };
  const broken = await startWorker({ name: "broken", main: edge.main, vars: weak });
  const answer = await broken.send("/a");
  assert.equal(answer.status, 503);
  assert.match(JSON.parse(answer.body).detail, /SPILLWAY_EDGE_KEYS: the key 2026-11 is shorter/);
  assert.doesNotMatch(answer.body, /2026-11=short/);
  assert.equal(origin.count("/a"), 1);
  await broken.stop();
  await origin.stop();
});
