// What Vite builds today, behind the edge: every file it writes is immutable, and its page is not.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { cacheStatus, root, startEdge, startOrigin } from "./support.mjs";

const TYPES = {
  ".css": "text/css",
  ".js": "text/javascript",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".woff": "font/woff",
  ".woff2": "font/woff2",
};
let folder, origin, edge, built;

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "spillway-vite-"));
  cpSync(path.join(root, "tests/bundles/apps/vite"), folder, { recursive: true });
  run("npm", ["ci", "--no-audit", "--no-fund"]);
  run("npx", ["vite", "build", "--base", "/built/", "--assetsDir", "."]);
  origin = await startOrigin();
  edge = await startEdge(origin.url);
  built = readdirSync(path.join(folder, "dist"));
  for (const name of built) {
    const headers = { "content-type": TYPES[path.extname(name)] ?? "text/html" };
    origin.answer(`/built/${name}`, 200, headers, readFileSync(path.join(folder, "dist", name)));
  }
});
after(async () => {
  await edge?.stop();
  await origin?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function run(program, args) {
  const done = spawnSync(program, args, { cwd: folder, encoding: "utf8" });
  assert.equal(done.status, 0, `${program} ${args.join(" ")}: ${done.error ?? done.stderr}`);
}

test("every file that Vite names by its contents costs one request and is immutable", async () => {
  const hashed = built.filter((name) => name !== "index.html");
  assert.ok(hashed.length >= 5, built.join(" "));
  for (const name of hashed) {
    for (const visit of ["first", "second"]) {
      const answer = await edge.send(`/built/${name}`);
      assert.equal(answer.headers["cache-control"], "public, max-age=31536000, immutable", name);
      if (visit === "second") assert.match(cacheStatus(answer), /^spillway-edge; hit/, name);
    }
    assert.equal(origin.count(`/built/${name}`), 1, name);
  }
});

test("its page is asked for each time", async () => {
  await edge.send("/built/index.html");
  const again = await edge.send("/built/index.html");
  assert.doesNotMatch(again.headers["cache-control"] ?? "", /immutable/);
  assert.equal(origin.count("/built/index.html"), 2);
});
