// The deployment as a user makes it: the root's wrangler.toml, by plain `npx wrangler`.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { root } from "./support.mjs";

test("`npx wrangler deploy --dry-run` builds and packs the worker without a complaint", () => {
  const out = path.join(root, "target/edge-tests/deploy");
  const args = ["wrangler", "deploy", "--dry-run", "--outdir", out];
  const run = spawnSync("npx", args, { cwd: root, encoding: "utf8" });
  const said = `${run.stdout}${run.stderr}`;
  assert.equal(run.status, 0, said);
  assert.match(said, /Total Upload/);
  assert.doesNotMatch(said, /Unexpected fields|deprecated/i);
  assert.ok(readdirSync(out).some((name) => name.endsWith(".wasm")), said);
});
