// The corpus tests/cases/*.toml inside workerd; tests/tests/project/cases.rs runs it natively.
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { build, root, startWorker } from "./support.mjs";

/** A corpus that has shrunk is a file that was not read. */
const CASES_MIN = 60;

test("every case is decided in wasm as it is natively", async () => {
  const out = path.join(root, "target/edge-tests/cases");
  build("--cases", "--out", out);
  const worker = await startWorker({ name: "cases", main: path.join(out, "index.js") });
  const answer = await worker.send("/");
  await worker.stop();
  assert.equal(answer.status, 200, answer.body);
  const outcomes = JSON.parse(answer.body);
  assert.ok(outcomes.length >= CASES_MIN, `only ${outcomes.length} cases`);
  const failed = outcomes.filter(({ passed }) => !passed);
  assert.deepEqual(failed, []);
});
