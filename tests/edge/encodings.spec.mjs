// What the application compressed is stored and served as it was, byte for byte.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { cacheStatus, sleep, startEdge, startOrigin, until } from "./support.mjs";

const PAST_LIFETIME_MS = 1200;
const TEXT = "console.log('hello');\n".repeat(200);
const CODED = {
  identity: Buffer.from(TEXT),
  gzip: gzipSync(TEXT),
  br: brotliCompressSync(TEXT),
  zstd: zstdCompressSync(TEXT),
};
let origin, edge;

before(async () => {
  origin = await startOrigin();
  edge = await startEdge(origin.url);
});
after(async () => {
  await edge?.stop();
  await origin?.stop();
});

/** As an application behind whitenoise or `compression`. The runtime asks for `br, gzip` itself. */
function codes(path, coding, more = {}) {
  origin.on(path, (request, response) => {
    const headers = { vary: "Accept-Encoding", etag: '"1"', "content-type": "text/javascript", ...more };
    if (request.headers["if-none-match"] === '"1"') return response.writeHead(304, headers).end();
    headers["content-length"] = CODED[coding].length;
    if (coding !== "identity") headers["content-encoding"] = coding;
    response.writeHead(200, headers).end(CODED[coding]);
  });
}

async function ask(path, coding, { method = "GET", headers = {} } = {}) {
  const all = { "accept-encoding": coding, ...headers };
  const { response } = await edge.open(path, { method, headers: all });
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  const { statusCode: status } = response;
  return { status, headers: response.headers, body: Buffer.concat(chunks) };
}

/** Stored in the background: until a visitor is answered from there. */
const stored = (path, coding) =>
  until(async () => /hit/.test(cacheStatus(await ask(path, coding))));

function assertCoded(answer, coding, how) {
  assert.equal(answer.status, 200, how);
  assert.equal(answer.headers["content-encoding"], coding === "identity" ? undefined : coding, how);
  assert.ok(answer.body.equals(CODED[coding]), `${how}: ${answer.body.length} bytes`);
}

for (const coding of Object.keys(CODED)) {
  test(`${coding}: the second visitor gets what the first one got, and so do all others`, async () => {
    const path = `/pages/${coding}.js`;
    codes(path, coding, { "cache-control": "max-age=60" });
    assertCoded(await ask(path, coding), coding, "first");
    await stored(path, coding);
    for (const how of ["second", "third"]) {
      const hit = await ask(path, coding);
      assert.match(cacheStatus(hit), /hit/, how);
      assertCoded(hit, coding, how);
    }
  });

  test(`${coding}: HEAD, a condition and a range are answered from the stored bytes`, async () => {
    const path = `/pages/parts-${coding}.js`;
    codes(path, coding, { "cache-control": "max-age=60" });
    await stored(path, coding);
    const head = await ask(path, coding, { method: "HEAD" });
    const coded = coding === "identity" ? undefined : coding;
    assert.equal(head.headers["content-encoding"], coded);
    assert.equal(head.body.length, 0);
    const known = await ask(path, coding, { headers: { "if-none-match": '"1"' } });
    assert.deepEqual([known.status, known.body.length], [304, 0]);
    const part = await ask(path, coding, { headers: { range: "bytes=2-9" } });
    if (coding === "identity") {
      assert.equal(part.headers["content-range"], `bytes 2-9/${CODED[coding].length}`);
      assert.ok(part.body.equals(CODED[coding].subarray(2, 10)));
    } else {
      // Who stands between may have to decode it, which no part allows.
      assertCoded(part, coding, "all of it instead of a part");
    }
  });

  test(`${coding}: a confirmed answer and a stale one are the bytes that were stored`, async () => {
    const path = `/api/prices/${coding}`;
    codes(path, coding);
    assertCoded(await ask(path, coding), coding, "first");
    await sleep(PAST_LIFETIME_MS);
    const confirmed = await ask(path, coding);
    assert.match(cacheStatus(confirmed), /fwd=stale; fwd-status=304/);
    assertCoded(confirmed, coding, "confirmed");
    await stored(path, coding);
    assertCoded(await ask(path, coding), coding, "stored again");
    await sleep(PAST_LIFETIME_MS);
    origin.answer(path, 500, {}, "oops");
    const stale = await ask(path, coding);
    assert.match(cacheStatus(stale), /fwd-status=500/);
    assertCoded(stale, coding, "stale");
  });
}

for (const coding of ["gzip", "br"]) {
  test(`${coding}: a client that takes no coding gets the text, from the store too`, async () => {
    const path = `/pages/plain-${coding}.js`;
    codes(path, coding, { "cache-control": "max-age=60" });
    for (const how of ["first", "second", "third"]) {
      assertCoded(await ask(path, "identity"), "identity", how);
      await stored(path, coding);
    }
    assertCoded(await ask(path, coding), coding, "and one that takes it");
  });

  test(`${coding}: what may not be stored passes as it came`, async () => {
    const path = `/pages/private-${coding}.js`;
    codes(path, coding, { "cache-control": "private" });
    for (const how of ["first", "second"]) assertCoded(await ask(path, coding), coding, how);
  });

  test(`${coding}: past every rule it is the same`, async () => {
    const path = `/other-${coding}.js`;
    codes(path, coding);
    assertCoded(await ask(path, coding), coding, "coded");
    assertCoded(await ask(path, "identity"), "identity", "text");
  });
}
