// Everything that is not stored: passed on as it came, cleaned of what no client may say.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { cacheStatus, startEdge, startOrigin, startWorker } from "./support.mjs";

let origin, edge;

before(async () => {
  origin = await startOrigin();
  edge = await startEdge(origin.url);
});
after(async () => {
  await edge?.stop();
  await origin?.stop();
});

test("an answer streams: its first part arrives before the origin has sent the second", async () => {
  let release;
  const gate = new Promise((open) => (release = open));
  origin.on("/stream", async (_, response) => {
    response.write("first");
    await gate;
    response.end("second");
  });
  const { response } = await edge.open("/stream");
  const parts = response[Symbol.asyncIterator]();
  assert.equal((await parts.next()).value.toString(), "first");
  release();
  assert.equal((await parts.next()).value.toString(), "second");
});

test("a request streams: the origin reads its first part before the client has sent the second", async () => {
  let sawFirst;
  const first = new Promise((seen) => (sawFirst = seen));
  const upload = async (request, response) => {
    const parts = [];
    for await (const part of request) {
      parts.push(part.toString());
      sawFirst(parts[0]);
    }
    response.end(parts.join("+"));
  };
  origin.on("/upload", Object.assign(upload, { streams: true }));
  const sending = edge.upload("/upload");
  sending.write("one");
  assert.equal(await first, "one");
  sending.end("two");
  assert.equal(await sending.body(), "one+two");
});

test("POST passes method, query and body", async () => {
  origin.on("/form", (request, response, chunks) => response.end(Buffer.concat(chunks)));
  const answer = await edge.send("/form?x=1&y", { method: "POST", body: "a=b" });
  assert.equal(answer.body, "a=b");
  assert.equal(origin.last().method, "POST");
  assert.equal(origin.last().url, "/form?x=1&y");
});

test("a compressed answer passes compressed", async () => {
  const body = gzipSync("hello ".repeat(100));
  origin.answer("/zipped", 200, { "content-encoding": "gzip" }, body);
  const { response } = await edge.open("/zipped", { headers: { "accept-encoding": "gzip" } });
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  assert.equal(response.headers["content-encoding"], "gzip");
  assert.equal(gunzipSync(Buffer.concat(chunks)).toString(), "hello ".repeat(100));
});

test("a redirect of the origin is the client's to follow", async () => {
  origin.answer("/moved", 302, { location: "/there" });
  const answer = await edge.send("/moved");
  assert.equal(answer.status, 302);
  assert.equal(answer.headers.location, "/there");
  assert.equal(origin.count("/there"), 0);
});

test("a WebSocket opens through the edge", async () => {
  origin.onUpgrade((request, socket) => {
    const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash("sha1").update(key).digest("base64");
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
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

test("several cookies stay several", async () => {
  origin.answer("/cookies", 200, { "set-cookie": ["a=1", "b=2"] });
  assert.deepEqual((await edge.send("/cookies")).headers["set-cookie"], ["a=1", "b=2"]);
});

test("another name of the site is redirected to the canonical one, with method, path and query kept", async () => {
  const answer = await edge.send("/a/b?c=d", { headers: { host: "old.example" }, method: "POST" });
  assert.equal(answer.status, 308);
  assert.match(answer.headers.location, /^https?:\/\/app\.example\/a\/b\?c=d$/);
  assert.equal(origin.count("/a/b"), 0);
});

test("a name that the rules do not list is not redirected", async () => {
  const answer = await edge.send("/", { headers: { host: "preview.example" } });
  assert.equal(answer.status, 404, "the origin's own answer");
});

test("what only Spillway or a proxy may say is taken off the request", async () => {
  origin.answer("/echo", 200, {}, "x");
  await edge.send("/echo", {
    headers: {
      "x-shard": "b",
      "x-shard-epoch": "9",
      "x-job-id": "forged",
      "x-forwarded-for": "10.0.0.1",
      forwarded: "for=10.0.0.1",
      "x-real-ip": "10.0.0.1",
      "x-forwarded-user": "eve",
      "x-forwarded-client-cert": "Hash=1",
      "client-cert": ":AA==:",
      "x-request-id": "7",
      "keep-alive": "timeout=5",
      "proxy-connection": "close",
      te: "trailers",
      "x-app": "kept",
    },
  });
  const { headers } = origin.last();
  const ours = ["x-shard", "x-shard-epoch", "x-job-id", "proxy-connection"];
  const ofProxies = ["forwarded", "x-forwarded-user", "x-forwarded-client-cert", "client-cert", "x-request-id"];
  for (const name of [...ours, ...ofProxies]) {
    assert.equal(headers[name], undefined, name);
  }
  assert.doesNotMatch(headers["x-forwarded-for"] ?? "", /10\.0\.0\.1/);
  assert.notEqual(headers["x-real-ip"], "10.0.0.1");
  assert.equal(headers["x-forwarded-host"], "app.example");
  assert.match(headers["x-forwarded-proto"], /^https?$/);
  assert.equal(headers["x-app"], "kept");
});

for (const path of ["/a//b", "/a%2fb", "/a%5cb", "/a%zz", "/@scope%2Fname"]) {
  test(`the path ${path} passes as it came, since no reading of it meets a rule`, async () => {
    origin.answer(path, 200, {}, "as it came");
    assert.equal((await edge.send(path)).body, "as it came");
    assert.equal(origin.last().url, path);
  });
}

for (const path of ["/catalogue//b", "/catalogue%2fb", "/x%5c..%2fb", "/a/%2e%2e%2fb", "/a%00", "//_spillway/jobs/1"]) {
  test(`the path ${path}, which servers read differently, is refused by name`, async () => {
    const answer = await edge.send(path);
    assert.equal(answer.status, 400);
    assert.equal(answer.headers["content-type"], "application/problem+json");
    const problem = JSON.parse(answer.body);
    assert.equal(problem.type, "/_spillway/problems/path-ambiguous");
    assert.equal(problem.status, 400);
    assert.match(answer.headers["cache-control"], /no-store/);
  });
}

test("a route that accepts ambiguous paths passes them untouched", async () => {
  origin.answer("/legacy/a%2fb", 200, {}, "legacy");
  const answer = await edge.send("/legacy/a%2fb");
  assert.equal(answer.body, "legacy");
  assert.equal(origin.last().url, "/legacy/a%2fb");
});

test("an origin that does not answer in the route's time is a 504", async () => {
  origin.on("/slow", () => {});
  const answer = await edge.send("/slow");
  assert.equal(answer.status, 504);
  assert.equal(JSON.parse(answer.body).type, "/_spillway/problems/upstream-timeout");
});

test("an origin that can't be reached is a 502", async () => {
  origin.on("/gone", (request) => request.socket.destroy());
  const answer = await edge.send("/gone");
  assert.equal(answer.status, 502);
  assert.equal(JSON.parse(answer.body).type, "/_spillway/problems/upstream-unreachable");
});

test("job status is the sidecar's to answer and never stored", async () => {
  const path = "/_spillway/jobs/1";
  origin.answer(path, 200, { "cache-control": "max-age=60" }, "running");
  await edge.send(path);
  const again = await edge.send(path);
  assert.equal(again.body, "running");
  assert.equal(origin.count(path), 2);
});

test("every answer says what the edge did", async () => {
  origin.answer("/status", 200, {}, "x");
  for (const path of ["/status", "/nowhere", "/a//b", "/_spillway/jobs/2", "/slow"]) {
    assert.match(cacheStatus(await edge.send(path)), /^spillway-edge/, path);
  }
  const redirect = await edge.send("/", { headers: { host: "old.example" } });
  assert.match(cacheStatus(redirect), /^spillway-edge/);
});

test("an earlier cache's Cache-Status is kept before ours", async () => {
  origin.answer("/behind", 200, { "cache-status": "spillway-sidecar; hit; ttl=3" }, "x");
  const answer = await edge.send("/behind");
  assert.match(answer.headers["cache-status"], /^spillway-sidecar; hit; ttl=3, spillway-edge/);
});

test("without a usable origin every request is refused by name", async () => {
  const lost = await startWorker({ name: "lost", main: edge.main, vars: { SPILLWAY_ORIGIN: "ftp:x" } });
  const answer = await lost.send("/");
  await lost.stop();
  assert.equal(answer.status, 503);
  assert.equal(answer.headers["content-type"], "application/problem+json");
});
