// A visitor of the edge: what the application compressed runs in a browser on every visit.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { cacheStatus, startEdge, startOrigin, until } from "../edge/support.mjs";
import { PATIENCE, startBrowser } from "./support.mjs";

const SCRIPT = `document.body.dataset.counts = "yes"; // ${"x".repeat(2000)}\n`;
let origin, edge, browser;

before(async () => {
  origin = await startOrigin();
  edge = await startEdge(origin.url);
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await edge?.stop();
  await origin?.stop();
});

for (const [coding, compress] of [["gzip", gzipSync], ["br", brotliCompressSync]]) {
  test(`a script in ${coding} runs from the store as it ran the first time`, async () => {
    const script = `/assets/app-${coding}.3f2a9c1b.js`;
    origin.answer(`/${coding}`, 200, { "content-type": "text/html" }, `<body><script src=${script}></script>`);
    const headers = { "content-type": "text/javascript", "content-encoding": coding, vary: "Accept-Encoding" };
    origin.answer(script, 200, headers, compress(SCRIPT));
    for (const visit of ["first", "second", "third"]) {
      // A context of its own: nothing is in the browser's cache.
      const context = await browser.newContext();
      const page = await context.newPage();
      const faults = [];
      page.on("pageerror", (fault) => faults.push(`${fault}`));
      const loaded = page.waitForResponse((answer) => answer.url().endsWith(script));
      await page.goto(new URL(`/${coding}`, edge.url).href, { timeout: PATIENCE });
      const counts = await page.evaluate(() => document.body.dataset.counts);
      assert.deepEqual([counts, faults], ["yes", []], visit);
      const status = (await (await loaded).allHeaders())["cache-status"];
      assert.match(status, visit === "first" ? /fwd=uri-miss/ : /hit/, visit);
      await context.close();
      await until(async () => /hit/.test(cacheStatus(await edge.send(script, { headers: { "accept-encoding": coding, host: edge.url.host } }))));
    }
  });
}
