// Pages and APIs as frameworks write them: redirects that depend on fields that nobody names, sessions
// beside anonymous visitors, and tokens.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cacheStatus, sleep, startEdge, startOrigin, until } from "./support.mjs";

const PAST_LIFETIME_MS = 1200;
const KEYS = "k1=0123456789abcdef0123456789abcdef";
let origin, edge, keyless;

before(async () => {
  origin = await startOrigin();
  edge = await startEdge(origin.url, { SPILLWAY_EDGE_KEYS: KEYS });
  keyless = await startEdge(origin.url);
});
after(async () => {
  await edge?.stop();
  await keyless?.stop();
  await origin?.stop();
});

/** A redirect to the page itself with another parameter unless the request has all of these fields. */
function wants(path, names) {
  origin.on(path, (request, response) => {
    const values = names.map((name) => request.headers[name]);
    if (values.includes(undefined)) return response.writeHead(307, { location: `${path}?_rsc=other` }).end();
    response.writeHead(200, {}).end(`for ${values.join(" ")}`);
  });
}

test("a redirect to itself is asked for whole, and the field it depends on is learned", async () => {
  const path = "/next/page";
  wants(path, ["next-url"]);
  const headers = { "next-url": "/from", "x-unused": "1", cookie: "a=b" };
  const first = await edge.send(path, { headers });
  assert.deepEqual([first.status, first.body], [200, "for /from"]);
  assert.match(cacheStatus(first), /fwd=uri-miss; detail=shown-too-little/);
  await until(async () => /; hit/.test(cacheStatus(await edge.send(path, { headers }))));
  const hit = await edge.send(path, { headers });
  assert.match(cacheStatus(hit), /; hit/);
  const other = await edge.send(path, { headers: { ...headers, "next-url": "/elsewhere" } });
  assert.equal(other.body, "for /elsewhere", "kept apart by it");
  const unused = await edge.send(path, { headers: { ...headers, "x-unused": "2" } });
  assert.match(cacheStatus(unused), /; hit/, "what changes nothing keeps nobody apart");
});

test("a redirect that no field alone explains passes uncached", async () => {
  const path = "/next/two";
  wants(path, ["x-one", "x-two"]);
  const headers = { "x-one": "1", "x-two": "2" };
  const get = () => edge.send(path, { headers });
  assert.equal((await get()).body, "for 1 2");
  await until(async () => /detail=uncacheable/.test(cacheStatus(await get())));
  const asked = origin.count(path);
  const passed = await get();
  assert.deepEqual([passed.status, passed.body], [200, "for 1 2"]);
  assert.equal(origin.count(path), asked + 1);
});

test("a redirect that is the same for the whole request is given, and kept from nobody", async () => {
  const path = "/next/checked";
  origin.on(path, (request, response) => {
    if (request.headers.cookie) return response.writeHead(200, {}).end("welcome");
    response.writeHead(301, { location: path, "set-cookie": "seen=1" }).end();
  });
  const first = await edge.send(path);
  assert.equal(first.status, 301);
  assert.match(cacheStatus(first), /detail=leads-back/);
  const seen = await edge.send(path, { headers: { cookie: "seen=1" } });
  assert.deepEqual([seen.status, seen.body], [200, "welcome"], "not round for ever");
});

test("a HEAD is asked whole as the GET that it is compared with", async () => {
  const path = "/next/head";
  const methods = new Set();
  origin.on(path, (request, response) => {
    methods.add(request.method);
    if (!request.headers["next-url"]) return response.writeHead(307, { location: path }).end();
    response.writeHead(200, {}).end("page");
  });
  const answer = await edge.send(path, { method: "HEAD", headers: { "next-url": "/from" } });
  assert.deepEqual([answer.status, answer.body], [200, ""]);
  assert.deepEqual([...methods], ["GET"]);
});

test("who has the session goes past the store, and all others share what no cookie could change", async () => {
  const path = "/anonymous/home";
  origin.on(path, (request, response) => {
    response.writeHead(200, { vary: "Cookie" }).end(request.headers.cookie ?? "nobody");
  });
  const get = (cookie) => edge.send(path, { headers: { cookie } });
  for (const cookie of ["session=ann", "a=b; session=ann", "session=", "session", "Session=ann"]) {
    const own = await get(cookie);
    assert.match(cacheStatus(own), /fwd=bypass; detail=bypass-cookie/, cookie);
    assert.equal(own.body, cookie);
  }
  for (const cookie of ["_ga=1", "__Host-session=ann", "my session=ann", "session[id]=ann"]) {
    const answer = await get(cookie);
    assert.doesNotMatch(cacheStatus(answer), /bypass/, cookie);
    assert.equal(answer.body, "nobody", cookie);
  }
  assert.match(cacheStatus(await get("_ga=2")), /; hit/);
});

test("an answer for the bearer of a token is for that bearer only, and for nobody without keys", async () => {
  const path = "/tokens/me";
  origin.on(path, (request, response) => {
    response.writeHead(200, {}).end(request.headers.authorization ?? "nobody");
  });
  const get = (worker, authorization) =>
    worker.send(path, authorization ? { headers: { authorization } } : {});
  for (const token of ["Bearer ann", "Bearer bob", undefined]) {
    assert.equal((await get(edge, token)).body, token ?? "nobody");
    const hit = await get(edge, token);
    assert.match(cacheStatus(hit), /; hit/, token);
    assert.equal(hit.body, token ?? "nobody");
  }
  for (let visit = 0; visit < 2; visit++) {
    const passed = await get(keyless, "Bearer carl");
    assert.match(cacheStatus(passed), /fwd=bypass; detail=no-secret/);
    assert.equal(passed.body, "Bearer carl");
  }
});

test("a token that the origin does not take any more reads nothing that is stored", async () => {
  const path = "/tokens/withdrawn";
  const headers = { authorization: "Bearer ann" };
  for (const refusal of [401, 403]) {
    origin.answer(path, 200, { etag: '"1"' }, "secret");
    await edge.send(path, { headers });
    await sleep(PAST_LIFETIME_MS);
    origin.answer(path, refusal, {}, "no");
    assert.equal((await edge.send(path, { headers })).status, refusal);
    origin.answer(path, 500, {}, "oops");
    await until(async () => (await edge.send(path, { headers })).status === 500);
    assert.equal((await edge.send(path, { headers })).status, 500, "nothing stale is left");
  }
});
