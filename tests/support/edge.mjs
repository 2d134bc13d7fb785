// The edge worker for tests that are not Node's: `edge.mjs RULES ORIGIN` prints where it listens, and ends with
// its input. One at a time: all are built in one folder, so that a step whose inputs did not change is skipped.
import path from "node:path";
import { build, root, startWorker } from "../edge/support.mjs";

const [rules, origin] = process.argv.slice(2);
const out = path.join(root, "target/edge-tests/system");
build("--routes", rules, "--out", out);
const main = path.join(out, "index.js");
const worker = await startWorker({ name: "edge", main, vars: { SPILLWAY_ORIGIN: origin } });
console.log(worker.url.origin);
process.stdin.resume().on("end", () => worker.stop());
