// Static assets with a version or content hash in the name.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cacheStatus, startEdge, startOrigin } from "./support.mjs";

const IMMUTABLE = "public, max-age=31536000, immutable";
let origin, edge;

before(async () => {
  origin = await startOrigin();
  edge = await startEdge(origin.url);
});
after(async () => {
  await edge?.stop();
  await origin?.stop();
});

/** Stores `body` under the path by one request. */
async function store(path, headers, body) {
  origin.answer(path, 200, headers, body);
  const first = await edge.send(path);
  assert.equal(first.status, 200);
  return first;
}

test("a versioned asset costs the origin one request and is immutable for the browser", async () => {
  const path = "/assets/main.v123.css";
  const first = await store(path, { "content-type": "text/css" }, "body{}");
  assert.match(cacheStatus(first), /^spillway-edge; fwd=uri-miss; stored/);
  for (let visit = 0; visit < 3; visit++) {
    const again = await edge.send(path);
    assert.equal(again.status, 200);
    assert.equal(again.body, "body{}");
    assert.equal(again.headers["content-type"], "text/css");
    assert.equal(again.headers["cache-control"], IMMUTABLE);
    assert.match(cacheStatus(again), /^spillway-edge; hit/);
  }
  assert.equal(first.headers["cache-control"], IMMUTABLE);
  assert.equal(origin.count(path), 1);
});

test("a hash in the name counts as a version", async () => {
  const path = "/assets/app-3f2a9c1b.js";
  await store(path, {}, "run()");
  assert.equal((await edge.send(path)).headers["cache-control"], IMMUTABLE);
  assert.equal(origin.count(path), 1);
});

test("an asset without a version in its name is never immutable", async () => {
  const path = "/assets/user-settings.js";
  const first = await store(path, { etag: '"one"' }, "one");
  assert.equal(first.headers["cache-control"], "no-cache");
  origin.answer(path, 200, { etag: '"two"' }, "two");
  const second = await edge.send(path);
  assert.equal(second.body, "two", "a new deploy must show at once");
});

test("a version in the query string does not make a name immutable", async () => {
  const path = "/assets/plain.css";
  origin.answer(path, 200, { etag: '"a"' }, "a");
  const answer = await edge.send(`${path}?v=123`);
  assert.doesNotMatch(answer.headers["cache-control"] ?? "", /immutable/);
});

test("a missing versioned asset is not immutable, because the deploy may still be under way", async () => {
  const path = "/assets/late.v7.js";
  const missing = await edge.send(path);
  assert.equal(missing.status, 404);
  assert.equal(missing.headers["cache-control"], "no-store");
});

const YEAR = { "cache-control": IMMUTABLE };
for (const [what, status, headers] of [
  ["a missing file", 404, YEAR],
  ["an error", 503, YEAR],
  ["a redirect", 302, { ...YEAR, location: "/login" }],
  ["a refusal", 403, YEAR],
  ["a page", 200, { ...YEAR, "content-type": "text/html; charset=utf-8" }],
]) {
  test(`${what} under a versioned name is kept by no browser, whatever the origin says`, async () => {
    const path = `/assets/in-place-${status}.v1.js`;
    origin.answer(path, status, headers, "not the script");
    for (let visit = 0; visit < 2; visit++) {
      const answer = await edge.send(path);
      assert.equal(answer.status, status);
      assert.equal(answer.headers["cache-control"], "no-store");
    }
    const past = await edge.send(path, { headers: { "cache-control": "no-store" } });
    assert.match(cacheStatus(past), /request-no-store/);
    assert.equal(past.headers["cache-control"], "no-store", "past the cache, too");
    const head = await edge.send(path, { method: "HEAD" });
    assert.equal(head.headers["cache-control"], "no-store");
    origin.answer(path, 200, { "content-type": "text/javascript" }, "run()");
  });
}

test("a part of an asset and a 304 that pass by keep the origin's words", async () => {
  const path = "/assets/passed.v1.css";
  origin.on(path, (request, response) => {
    const status = request.headers["if-none-match"] ? 304 : 206;
    response.writeHead(status, { ...YEAR, etag: '"1"', "content-type": "text/html" }).end();
  });
  for (const [name, value] of [["if-none-match", '"1"'], ["range", "bytes=0-1"]]) {
    const headers = { "cache-control": "no-store", [name]: value };
    assert.equal((await edge.send(path, { headers })).headers["cache-control"], IMMUTABLE);
  }
});

test("a session's cookie is taken off an asset that is stored, and off nothing else", async () => {
  const path = "/assets/with-cookie.v1.css";
  const first = await store(path, { "content-type": "text/css", "set-cookie": "session=2" }, "body{}");
  assert.equal(first.headers["set-cookie"], undefined);
  assert.match(cacheStatus(await edge.send(path)), /; hit/);
  const missing = "/assets/without.v1.css";
  origin.answer(missing, 404, { "set-cookie": "session=2" }, "no");
  assert.deepEqual((await edge.send(missing)).headers["set-cookie"], ["session=2"]);
});

test("a font is one answer for pages of all origins, and each of them may read it", async () => {
  const path = "/built/Inter-BqL7urjy.woff2";
  origin.on(path, (request, response) => {
    const headers = { "content-type": "font/woff2", vary: "Accept-Encoding, Origin" };
    headers["access-control-allow-origin"] = request.headers.origin ?? "https://nobody.example";
    headers["access-control-allow-credentials"] = "true";
    response.writeHead(200, headers).end("font");
  });
  for (const from of [undefined, "https://a.example", "https://b.example", "null"]) {
    const answer = await edge.send(path, { headers: from ? { origin: from } : {} });
    assert.equal(answer.headers["access-control-allow-origin"], "*");
    assert.equal(answer.headers["access-control-allow-credentials"], undefined);
    assert.equal(answer.headers.vary, "Accept-Encoding");
    assert.equal(answer.headers["cache-control"], IMMUTABLE);
  }
  assert.equal(origin.count(path), 1);
  const missing = await edge.send("/built/Gone-BqL7urjy.woff2", { headers: { origin: "https://a.example" } });
  assert.deepEqual([missing.status, missing.headers["access-control-allow-origin"]], [404, "*"]);
});

test("an error of the origin is not stored in a versioned asset's place", async () => {
  const path = "/assets/broken.v8.js";
  origin.answer(path, 500, {}, "oops");
  assert.equal((await edge.send(path)).status, 500);
  origin.answer(path, 200, {}, "well");
  const mended = await edge.send(path);
  assert.equal(mended.body, "well");
  assert.equal(mended.headers["cache-control"], IMMUTABLE);
});

test("a browser that has the asset gets 304 without its body, and the origin is not asked", async () => {
  const path = "/assets/known.v1.css";
  await store(path, { etag: '"known"' }, "body{}");
  const answer = await edge.send(path, { headers: { "if-none-match": 'W/"known"' } });
  assert.equal(answer.status, 304);
  assert.equal(answer.body, "");
  assert.equal(answer.headers.etag, '"known"');
  assert.equal(answer.headers["cache-control"], IMMUTABLE);
  const changed = await edge.send(path, { headers: { "if-none-match": '"other"' } });
  assert.equal(changed.status, 200);
  assert.equal(origin.count(path), 1);
});

test("a byte range is cut from the stored whole", async () => {
  const path = "/assets/movie.v2.txt";
  await store(path, { etag: '"m"', "content-length": "10" }, "0123456789");
  const part = await edge.send(path, { headers: { range: "bytes=2-4" } });
  assert.equal(part.status, 206);
  assert.equal(part.body, "234");
  assert.equal(part.headers["content-range"], "bytes 2-4/10");
  const changed = await edge.send(path, { headers: { range: "bytes=2-4", "if-range": '"old"' } });
  assert.equal(changed.status, 200, "If-Range of another version asks for the whole");
  assert.equal(changed.body, "0123456789");
  const beyond = await edge.send(path, { headers: { range: "bytes=10-" } });
  assert.equal(beyond.status, 416);
  assert.equal(beyond.headers["content-range"], "bytes */10");
  assert.equal(origin.count(path), 1);
});

test("HEAD is answered from the stored GET", async () => {
  const path = "/assets/head.v3.css";
  await store(path, { "content-type": "text/css" }, "body{}");
  const head = await edge.send(path, { method: "HEAD" });
  assert.equal(head.status, 200);
  assert.equal(head.body, "");
  assert.equal(head.headers["content-type"], "text/css");
  assert.match(cacheStatus(head), /; hit/);
  assert.equal(origin.count(path), 1);
});

test("a stored answer shows none of the edge's own book-keeping", async () => {
  const path = "/assets/clean.v4.css";
  await store(path, {}, "body{}");
  const answer = await edge.send(path);
  const names = Object.keys(answer.headers).filter((name) => name.startsWith("x-spillway"));
  assert.deepEqual(names, []);
});

test("an origin can't write the book-keeping itself", async () => {
  const path = "/assets/forged.v5.css";
  const forged = { "x-spillway-vary": "accept", "x-spillway-record": "{}" };
  await store(path, forged, "body{}");
  assert.match(cacheStatus(await edge.send(path)), /; hit/);
  assert.equal(origin.count(path), 1);
});

test("nobody can ask for a stored entry by its own address", async () => {
  const answer = await edge.send("/_spillway/edge-cache/0123");
  assert.equal(answer.status, 404);
  assert.equal(JSON.parse(answer.body).type, "/_spillway/problems/no-route");
  assert.equal(origin.count("/_spillway/edge-cache/0123"), 0);
});
