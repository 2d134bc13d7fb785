// The deployment as a user makes it: the root's wrangler.toml, by plain `npx wrangler` and by `cargo xtask
// deploy`, which lets nobody deploy the demo's rules on a zone of their own.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { build, cacheStatus, root, startWorker } from "./support.mjs";

const OUT = path.join(root, "target/edge-tests");
mkdirSync(OUT, { recursive: true });
const folder = mkdtempSync(path.join(OUT, "deploy-"));
after(() => rmSync(folder, { recursive: true }));

/** Status and output of a command in the repository. */
function run(command, args, env = {}) {
  const ended = spawnSync(command, args, { cwd: root, encoding: "utf8", env: { ...process.env, ...env } });
  return { status: ended.status, said: `${ended.stdout}${ended.stderr}` };
}

/** The text with each part replaced, all of which must be there. */
function changed(file, replacements) {
  let text = readFileSync(path.join(root, file), "utf8");
  for (const [from, to] of replacements) {
    assert.ok(text.includes(from), `${file}: ${from}`);
    text = text.replace(from, to);
  }
  const copy = path.join(folder, file);
  writeFileSync(copy, text);
  return copy;
}

test("`npx wrangler deploy --dry-run` builds and packs the worker without a complaint", () => {
  const out = path.join(OUT, "deploy");
  const { status, said } = run("npx", ["wrangler", "deploy", "--dry-run", "--outdir", out]);
  assert.equal(status, 0, said);
  assert.match(said, /Total Upload/);
  assert.doesNotMatch(said, /Unexpected fields|deprecated/i);
  assert.ok(readdirSync(out).some((name) => name.endsWith(".wasm")), said);
});

test("`cargo xtask deploy` refuses the repository's own files by three names, all at once", () => {
  const { status, said } = run("cargo", ["xtask", "deploy", "--dry-run"]);
  assert.equal(status, 1, said);
  assert.match(said, /routes\.toml:\d+:\d+: fault demo-origin: edge\.origin: /);
  assert.match(said, /routes\.toml:\d+:\d+: fault demo-hosts: edge\.canonical\.from: `example\.com`/);
  assert.match(said, /routes\.toml:\d+:\d+: fault demo-hosts: edge\.canonical\.to: `www\.example\.com`/);
  assert.match(said, /wrangler\.toml:\d+:\d+: fault no-zone-route: routes: /);
  assert.doesNotMatch(said, /Total Upload/, "wrangler was never called");
});

test("the build refuses the demo's rules where it is for a deployment", () => {
  const out = path.join(folder, "refused");
  const { status, said } = run("cargo", ["xtask", "edge", "--out", out], { SPILLWAY_DEPLOY: "1" });
  assert.equal(status, 1, said);
  assert.match(said, /fault demo-origin: .*[^]*fault demo-hosts: /);
  assert.ok(!existsSync(out), "nothing was built");
});

test("with the three lines changed it goes as far as `--dry-run` does", () => {
  const routes = changed("routes.toml", [
    ["https://origin.example.com", "https://origin.shop.example"],
    [`from = ["example.com"], to = "www.example.com"`, `from = ["shop.example"], to = "www.shop.example"`],
  ]);
  const out = path.join(OUT, "own");
  const config = changed("wrangler.toml", [
    [`# [[routes]]\n# pattern   = "www.example.com/*"\n# zone_name = "example.com"`,
      `[[routes]]\npattern   = "www.shop.example/*"\nzone_name = "shop.example"`],
    // Not the user's to change: the copy lies elsewhere, and must not touch what others build.
    [`"edge-worker/build/index.js"`, `"${path.join(out, "index.js")}"`],
    [`"cargo xtask edge"`, `"cargo xtask edge --out ${out}"`],
  ]);
  const own = ["xtask", "deploy", "--dry-run", "--config", config];
  const { status, said } = run("cargo", [...own, "--routes", routes]);
  assert.equal(status, 0, said);
  assert.ok(said.includes(`${routes}: config_hash`), said);
  assert.match(said, /Total Upload/);
  // The origin may also be the deployment's own; the demo's hosts are refused all the same.
  const bound = run("cargo", [...own, "--var", "SPILLWAY_ORIGIN:https://origin.shop.example"]);
  assert.equal(bound.status, 1, bound.said);
  assert.match(bound.said, /demo-hosts/);
  assert.doesNotMatch(bound.said, /demo-origin|no-zone-route/);
});

test("a Worker with the demo's rules answers nobody's own host", async () => {
  const out = path.join(OUT, "demo");
  build("--out", out);
  const worker = await startWorker({ name: "demo", main: path.join(out, "index.js") });
  try {
    // A path that the rules refuse, so that no request leaves for an origin that does not exist.
    const ask = (host) => worker.send("/hooks/report-ready", { headers: { host } });
    for (const host of ["www.shop.example", "www.example.com", "example.com"]) {
      const answer = await ask(host);
      assert.equal(answer.status, 503, host);
      assert.equal(answer.headers["content-type"], "application/problem+json");
      assert.equal(answer.headers["cache-control"], "no-store");
      assert.equal(cacheStatus(answer), "spillway-edge; detail=demo-rules");
      const problem = JSON.parse(answer.body);
      assert.equal(problem.type, "/_spillway/problems/demo-rules");
      assert.match(problem.detail, /cargo xtask deploy/);
    }
    for (const host of ["localhost:8787", "127.0.0.1", "[::1]:8787", "spillway-edge.me.workers.dev"]) {
      assert.equal(cacheStatus(await ask(host)), "spillway-edge; detail=hook-path", host);
    }
  } finally {
    await worker.stop();
  }
});

test("an origin of the deployment's own makes the demo's rules somebody's", async () => {
  const main = path.join(OUT, "demo/index.js");
  const vars = { SPILLWAY_ORIGIN: "http://origin.invalid" };
  const worker = await startWorker({ name: "bound", main, vars });
  try {
    const answer = await worker.send("/hooks/report-ready", { headers: { host: "www.shop.example" } });
    assert.equal(cacheStatus(answer), "spillway-edge; detail=hook-path");
  } finally {
    await worker.stop();
  }
});
