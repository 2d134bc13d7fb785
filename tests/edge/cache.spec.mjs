// Answers of the API and of pages, kept at the edge for as long as the rules say.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cacheStatus, sleep, startEdge, startOrigin, until } from "./support.mjs";

/** Longer than the one second of the rules, and than the whole seconds of `Age`. */
const PAST_LIFETIME_MS = 1200;
let origin, edge;

before(async () => {
  origin = await startOrigin();
  edge = await startEdge(origin.url);
});
after(async () => {
  await edge?.stop();
  await origin?.stop();
});

test("an answer of the API is kept for its lifetime and then asked for again", async () => {
  origin.answer("/api/prices/1", 200, { "cache-control": "public" }, "10");
  assert.equal((await edge.send("/api/prices/1")).body, "10");
  origin.answer("/api/prices/1", 200, {}, "11");
  const hit = await edge.send("/api/prices/1");
  assert.equal(hit.body, "10");
  assert.match(cacheStatus(hit), /^spillway-edge; hit; ttl=\d/);
  assert.equal(hit.headers["cache-control"], "public", "the origin's own field reaches the client");
  await sleep(PAST_LIFETIME_MS);
  const later = await edge.send("/api/prices/1");
  assert.equal(later.body, "11");
  assert.match(cacheStatus(later), /fwd=stale/);
  assert.equal(origin.count("/api/prices/1"), 2);
});

test("a stale answer is served at once while one request in the background renews it", async () => {
  origin.answer("/api/ticker", 200, {}, "old");
  await edge.send("/api/ticker");
  await sleep(PAST_LIFETIME_MS);
  let release;
  const gate = new Promise((open) => (release = open));
  origin.on("/api/ticker", async (_, response) => {
    await gate;
    response.end("new");
  });
  const answers = await Promise.all([1, 2, 3, 4].map(() => edge.send("/api/ticker")));
  assert.deepEqual(answers.map(({ body }) => body), ["old", "old", "old", "old"]);
  assert.match(cacheStatus(answers[0]), /hit; ttl=-?\d; detail=revalidating/);
  release();
  await until(async () => (await edge.send("/api/ticker")).body === "new");
  assert.equal((await edge.send("/api/ticker")).body, "new");
  assert.equal(origin.count("/api/ticker"), 2, "four stale hits, one renewal");
});

for (const [name, path, fail] of [
  ["answers 500", "/api/prices/500", (_, response) => response.writeHead(500).end("oops")],
  ["drops the connection", "/api/prices/drop", (request) => request.socket.destroy()],
  ["does not answer in time", "/api/prices/slow", () => {}],
]) {
  test(`the last good answer is served when the origin ${name}`, async () => {
    origin.answer(path, 200, {}, "good");
    await edge.send(path);
    await sleep(PAST_LIFETIME_MS);
    origin.on(path, fail);
    const answer = await edge.send(path);
    assert.equal(answer.status, 200);
    assert.equal(answer.body, "good");
    assert.match(cacheStatus(answer), /fwd=stale/);
  });
}

test("without a stored answer the origin's failure is passed on", async () => {
  origin.answer("/api/prices/none", 500, {}, "oops");
  const answer = await edge.send("/api/prices/none");
  assert.equal(answer.status, 500);
  assert.equal(answer.body, "oops");
});

test("an expired answer with an ETag is renewed by 304 and not sent again", async () => {
  const path = "/api/prices/etag";
  origin.answer(path, 200, { etag: '"v1"', "x-note": "first" }, "same");
  await edge.send(path);
  await sleep(PAST_LIFETIME_MS);
  origin.answer(path, 304, { etag: '"v1"', "x-note": "second" });
  const renewed = await edge.send(path);
  assert.equal(renewed.status, 200);
  assert.equal(renewed.body, "same");
  assert.equal(renewed.headers["x-note"], "second", "the 304's fields replace the stored ones");
  assert.equal(origin.last().headers["if-none-match"], '"v1"');
  const hit = await edge.send(path);
  assert.match(cacheStatus(hit), /; hit/);
  assert.equal(hit.body, "same");
  assert.equal(hit.headers["x-note"], "second");
  assert.equal(origin.count(path), 2);
});

test("a cookie that comes with a 304 goes to its client only, and the answer stays stored", async () => {
  const path = "/api/prices/renewed-cookie";
  origin.answer(path, 200, { etag: '"v1"' }, "same");
  await edge.send(path);
  await sleep(PAST_LIFETIME_MS);
  origin.answer(path, 304, { etag: '"v1"', "set-cookie": ["session=ann", "theme=dark"] });
  const asker = await edge.send(path);
  assert.equal(asker.body, "same");
  assert.deepEqual(asker.headers["set-cookie"], ["session=ann", "theme=dark"]);
  const other = await edge.send(path);
  assert.match(cacheStatus(other), /; hit/);
  assert.deepEqual([other.body, other.headers["set-cookie"]], ["same", undefined]);
});

test("an answer that a 304 forbids to keep is given once more and never again", async () => {
  const path = "/api/prices/renewed-private";
  origin.answer(path, 200, { etag: '"v1"', "content-type": "text/plain" }, "same");
  await edge.send(path);
  await sleep(PAST_LIFETIME_MS);
  origin.answer(path, 304, { etag: '"v1"', "cache-control": "private" });
  const last = await edge.send(path);
  assert.deepEqual([last.status, last.body, last.headers["content-type"]], [200, "same", "text/plain"]);
  assert.match(cacheStatus(last), /fwd=stale; detail=private/);
  assert.equal(last.headers["cache-control"], "private");
  origin.answer(path, 500, {}, "oops");
  await until(async () => (await edge.send(path)).status === 500);
  assert.equal((await edge.send(path)).status, 500, "nothing stale is left of it");
});

test("an answer of an origin without a clock is dated when it comes in, also by a 304", async () => {
  const path = "/api/prices/no-date";
  origin.on(path, (request, response) => {
    response.sendDate = false;
    const known = request.headers["if-none-match"] === '"v1"';
    response.writeHead(known ? 304 : 200, { etag: '"v1"' }).end(known ? undefined : "same");
  });
  await edge.send(path);
  const date = async () => Date.parse((await edge.send(path)).headers.date);
  const first = await date();
  assert.ok(Math.abs(Date.now() - first) < 60_000, String(first));
  await sleep(2 * PAST_LIFETIME_MS);
  await edge.send(path);
  assert.ok((await date()) > first, "the time of the 304");
});

/** What the sidecar answers with when the app is down: old, and saying so. */
const STALE = {
  age: "33",
  etag: '"v1"',
  "cache-status": "spillway-sidecar; hit; fwd=stale; ttl=-30; detail=stale-on-error",
};

for (const status of [304, 200]) {
  test(`the age and the way of a ${status} of a cache behind us reach the client, and age counts`, async () => {
    const path = `/api/prices/stale-${status}`;
    origin.answer(path, 200, { etag: '"v1"' }, "old");
    await edge.send(path);
    await sleep(PAST_LIFETIME_MS);
    origin.answer(path, status, STALE, status === 304 ? undefined : "old");
    for (let visit = 2; visit <= 3; visit++) {
      const answer = await edge.send(path);
      assert.equal(answer.status, 200);
      assert.equal(answer.body, "old");
      assert.equal(answer.headers.age, "33");
      assert.match(answer.headers["cache-status"], /^spillway-sidecar; hit; fwd=stale; .*, spillway-edge; /);
      assert.match(cacheStatus(answer), /fwd=stale/);
      assert.equal(origin.count(path), visit, "older than its lifetime: asked for again");
    }
  });
}

test("a renewed answer's age counts on in the store, and the way it came is told with it (RFC 9211 section 3)", async () => {
  const path = "/pages/aged";
  origin.answer(path, 200, { etag: '"v1"', "cache-control": "max-age=1" }, "page");
  await edge.send(path);
  await sleep(PAST_LIFETIME_MS);
  origin.answer(path, 304, { ...STALE, "cache-control": "max-age=60" });
  assert.equal((await edge.send(path)).headers.age, "33");
  const hit = await edge.send(path);
  assert.match(hit.headers["cache-status"], /^spillway-sidecar; hit; fwd=stale; [^,]*, spillway-edge; hit; ttl=2\d$/);
  assert.match(hit.headers.age, /^3[34]$/);
  assert.equal(origin.count(path), 2);
});

test("a failed answer's way is told before ours when a stale one takes its place", async () => {
  const path = "/api/prices/failed-behind";
  origin.answer(path, 200, {}, "good");
  await edge.send(path);
  await sleep(PAST_LIFETIME_MS);
  origin.answer(path, 502, { "cache-status": "spillway-sidecar; fwd=uri-miss" }, "oops");
  const answer = await edge.send(path);
  assert.equal(answer.body, "good");
  assert.match(answer.headers["cache-status"], /^spillway-sidecar; fwd=uri-miss, spillway-edge; hit; fwd=stale; fwd-status=502/);
});

test("a failed answer to the whole request is no answer either: the stale one takes its place", async () => {
  const path = "/pages/whole-fails";
  const headers = { "next-url": "/" };
  origin.answer(path, 200, { "cache-control": "max-age=1, stale-if-error=60" }, "good");
  await edge.send(path, { headers });
  await sleep(PAST_LIFETIME_MS);
  origin.on(path, (request, response) => {
    if ("next-url" in request.headers) return response.writeHead(500).end("oops");
    return response.writeHead(307, { location: path }).end();
  });
  const answer = await edge.send(path, { headers });
  assert.equal(answer.body, "good");
  assert.match(cacheStatus(answer), /hit; fwd=stale; fwd-status=500/);
});

test("an answer that may not be kept takes the stored one with it", async () => {
  const path = "/api/prices/gone";
  origin.answer(path, 200, {}, "old");
  await edge.send(path);
  await sleep(PAST_LIFETIME_MS);
  origin.answer(path, 200, { "cache-control": "no-store" }, "new");
  assert.equal((await edge.send(path)).body, "new");
  origin.answer(path, 500, {}, "oops");
  // The store is written behind the answer.
  await until(async () => (await edge.send(path)).status === 500);
  assert.equal((await edge.send(path)).body, "oops", "no stale answer stands in");
});

test("a request that asks not to fetch is refused where nothing usable is stored", async () => {
  const path = "/api/prices/at-hand";
  origin.answer(path, 200, {}, "here");
  const headers = { "cache-control": "only-if-cached" };
  const refused = await edge.send(path, { headers });
  assert.equal(refused.status, 504);
  assert.equal(cacheStatus(refused), "spillway-edge; detail=only-if-cached");
  assert.equal(origin.count(path), 0);
  await edge.send(path);
  assert.equal((await edge.send(path, { headers })).body, "here");
});

test("a part of what is not stored is asked for as a part", async () => {
  const path = "/api/prices/film";
  origin.on(path, (request, response) => {
    const headers = { "cache-control": "no-store", "x-range": request.headers.range ?? "none" };
    if (request.headers.range !== "bytes=1-2") return response.writeHead(200, headers).end("film");
    return response.writeHead(206, { ...headers, "content-range": "bytes 1-2/4" }).end("il");
  });
  const part = await edge.send(path, { headers: { range: "bytes=1-2", "x-other": "theirs" } });
  assert.equal(part.status, 206);
  assert.equal(part.body, "il");
  assert.match(cacheStatus(part), /fwd=uri-miss; detail=no-store/);
  assert.equal(origin.last().headers["x-other"], undefined, "as much of the request as any fetch shows");
  assert.equal(origin.count(path), 2, "the whole first: it might have been stored");
  const next = await edge.send(path, { headers: { range: "bytes=1-2", "x-other": "theirs" } });
  assert.equal(next.body, "il");
  assert.match(cacheStatus(next), /fwd=bypass; detail=uncacheable/);
  assert.equal(origin.last().headers["x-other"], undefined);
  assert.equal(origin.count(path), 3, "a player that seeks costs a request for each part");
});

test("where the key has cookies and the request has none of them, the origin is shown none", async () => {
  const path = "/localized/page";
  origin.on(path, (request, response) => response.end(request.headers.cookie ?? "none"));
  assert.equal((await edge.send(path, { headers: { cookie: "session=1" } })).body, "none");
  assert.equal((await edge.send(path, { headers: { cookie: "session=1; language=de" } })).body, "language=de");
  assert.equal((await edge.send(path)).body, "none");
  assert.equal(origin.count(path), 2);
});

test("only listed query parameters reach the origin and the key", async () => {
  const path = "/api/prices/query";
  origin.answer(path, 200, {}, "q");
  await edge.send(`${path}?utm_source=mail&to=2&from=1`);
  assert.equal(origin.last().url, `${path}?from=1&to=2`);
  await edge.send(`${path}?from=1&to=2&fbclid=xyz`);
  assert.equal(origin.count(path), 1);
  await edge.send(`${path}?from=1&to=3`);
  assert.equal(origin.count(path), 2);
});

test("a request with a cookie neither gets a stored answer nor leaves one", async () => {
  const path = "/catalogue/cookie";
  origin.answer(path, 200, {}, "anyone's");
  await edge.send(path);
  origin.answer(path, 200, {}, "Ann's");
  const own = await edge.send(path, { headers: { cookie: "session=ann" } });
  assert.equal(own.body, "Ann's");
  assert.match(cacheStatus(own), /fwd=(bypass|request)/);
  assert.equal((await edge.send(path)).body, "anyone's");
});

test("an answer that sets a cookie is never stored", async () => {
  const path = "/catalogue/set-cookie";
  origin.answer(path, 200, { "set-cookie": "session=ann" }, "hello Ann");
  const first = await edge.send(path);
  assert.deepEqual(first.headers["set-cookie"], ["session=ann"]);
  origin.answer(path, 200, {}, "hello");
  const second = await edge.send(path);
  assert.equal(second.body, "hello");
  assert.equal(second.headers["set-cookie"], undefined);
});

test("an answer to a request with Authorization is stored for nobody else", async () => {
  const path = "/catalogue/authorization";
  origin.answer(path, 200, {}, "secret");
  await edge.send(path, { headers: { authorization: "Bearer a" } });
  origin.answer(path, 200, {}, "public");
  assert.equal((await edge.send(path)).body, "public");
});

test("`private` and `no-store` of the origin win over the rules", async () => {
  for (const directive of ["private", "no-store"]) {
    const path = `/catalogue/${directive}`;
    origin.answer(path, 200, { "cache-control": directive }, "mine");
    await edge.send(path);
    await edge.send(path);
    assert.equal(origin.count(path), 2, directive);
  }
});

test("each language that Vary tells apart has an answer of its own", async () => {
  const path = "/catalogue/vary";
  origin.on(path, (request, response) => {
    response.writeHead(200, { vary: "Accept-Language" });
    response.end(request.headers["accept-language"]);
  });
  for (const language of ["de", "en", "de", "en"]) {
    const answer = await edge.send(path, { headers: { "accept-language": language } });
    assert.equal(answer.body, language);
    assert.equal(answer.headers.vary, "Accept-Language");
  }
  // The first was asked for without a language, before it was known that there is one.
  assert.equal(origin.count(path), 3);
});

test("`Vary: *` is never stored", async () => {
  const path = "/catalogue/vary-all";
  origin.answer(path, 200, { vary: "*" }, "x");
  await edge.send(path);
  await edge.send(path);
  assert.equal(origin.count(path), 2);
});

test("a route may leave the lifetime to the origin", async () => {
  origin.answer("/pages/kept", 200, { "cache-control": "max-age=60" }, "kept");
  origin.answer("/pages/unsaid", 200, {}, "unsaid");
  for (const path of ["/pages/kept", "/pages/unsaid"]) {
    await edge.send(path);
    await edge.send(path);
  }
  assert.equal(origin.count("/pages/kept"), 1);
  assert.equal(origin.count("/pages/unsaid"), 2);
});

test("an unsafe request to a stored address makes the next reader ask the origin", async () => {
  const path = "/pages/changed";
  origin.answer(path, 200, { "cache-control": "max-age=60" }, "before");
  await edge.send(path);
  origin.answer(path, 200, { "cache-control": "max-age=60" }, "after");
  await edge.send(path, { method: "POST", body: "change" });
  assert.equal((await edge.send(path)).body, "after");
});

test("an answer that moves to another origin does not delete what is stored here under that path", async () => {
  origin.answer("/catalogue/shoes", 200, {}, "shoes");
  await edge.send("/catalogue/shoes");
  for (const [location, body] of [["http://elsewhere.example/catalogue/shoes", "shoes"], ["../catalogue/shoes", "boots"]]) {
    origin.answer("/catalogue/shoes", 200, {}, "boots");
    origin.answer("/other/order", 201, { location }, "");
    await edge.send("/other/order", { method: "POST" });
    assert.equal((await edge.send("/catalogue/shoes")).body, body, location);
  }
});

test("a route in observe mode is served as if it had no cache", async () => {
  const path = "/watched/page";
  origin.answer(path, 200, {}, "x");
  await edge.send(path);
  await edge.send(path);
  assert.equal(origin.count(path), 2);
});

test("two hosts never share an entry", async () => {
  const path = "/catalogue/host";
  origin.on(path, (request, response) => response.end(request.headers["x-forwarded-host"]));
  assert.equal((await edge.send(path, { headers: { host: "one.example" } })).body, "one.example");
  assert.equal((await edge.send(path, { headers: { host: "two.example" } })).body, "two.example");
});

test("a header that an origin may obey but no key holds does not reach it on a cached route", async () => {
  const path = "/catalogue/poison";
  origin.answer(path, 200, {}, "x");
  await edge.send(path, {
    headers: { "x-original-url": "/admin", "x-forwarded-host": "evil", "x-forwarded-user": "eve" },
  });
  const { headers } = origin.last();
  assert.equal(headers["x-original-url"], undefined);
  assert.equal(headers["x-forwarded-user"], undefined);
  assert.equal(headers["x-forwarded-host"], "app.example");
});

test("another method in a field is refused by name on a cached route, and passes elsewhere", async () => {
  const headers = { "x-http-method-override": "DELETE" };
  const refused = await edge.send("/catalogue/poison", { method: "POST", headers });
  assert.equal(refused.status, 400);
  assert.match(JSON.parse(refused.body).type, /method-override$/);
  origin.answer("/orders/5", 200, {}, "x");
  assert.equal((await edge.send("/orders/5", { method: "POST", headers })).status, 200);
  assert.equal(origin.last().headers["x-http-method-override"], "DELETE");
});
