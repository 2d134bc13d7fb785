// Runs the public test suite of HTTP caches (https://cache-tests.fyi) through the sidecar or the
// edge worker, prints the score, and fails when a test that passed before fails now.
//
//   node tests/conformance/run.mjs sidecar|edge [--suite DIR] [--list] [--update]
//
// --suite DIR   a checkout of github.com/http-tests/cache-tests instead of the npm package; its score
//               is printed and compared with nothing
// --list        names the tests that fail, and why
// --update      writes the tests that pass to the baseline; none may be lost
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { score } from "./score.mjs";

const here = import.meta.dirname;
const root = path.resolve(here, "../..");
/** The suite takes a minute; a cache that hangs is not waited for longer than this. */
const RUN_MS_MAX = 300_000;

const { tier, suite, isOwnSuite, flags } = parse(process.argv.slice(2));
const running = [];
try {
  process.exitCode = await run();
} finally {
  for (const stop of running.reverse()) await stop();
}
// Pooled connections of the suite's client keep Node alive.
process.exit();

async function run() {
  const origin = await startOrigin();
  const cache = await (tier === "edge" ? startEdge(origin) : startSidecar(origin));
  const results = JSON.parse(await collect(cache));
  const tests = (await import(pathToFileURL(path.join(suite, "tests/index.mjs")).href)).default;
  const scored = score(tests, results);
  console.log(`| spillway, ${tier} | ${scored.table} |`);
  if (flags.has("--list")) for (const line of scored.failing) console.log(line);
  return isOwnSuite ? 0 : compare(scored);
}

/** Nothing that passed before may fail now; what passes now is told, so that it can be kept. */
function compare(scored) {
  const file = path.join(here, `baseline-${tier}.json`);
  const before = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
  const lost = before.filter((id) => !scored.passed.includes(id));
  const gained = scored.passed.filter((id) => !before.includes(id));
  for (const id of lost) console.error(`${id} passed before: ${scored.why(id)}`);
  if (flags.has("--update") && lost.length === 0) {
    writeFileSync(file, `${JSON.stringify(scored.passed, null, 1)}\n`);
  } else if (gained.length > 0) {
    console.error(`pass now, too: ${gained.join(", ")}; keep them with --update`);
  }
  // The form that `cargo xtask test` counts.
  console.log(`# pass ${before.length - lost.length}\n# fail ${lost.length}`);
  return lost.length > 0 ? 1 : 0;
}

function parse(args) {
  const [tier, ...rest] = args;
  const at = rest.indexOf("--suite");
  const own = at < 0 ? [] : rest.splice(at, 2);
  const flags = new Set(rest);
  const isKnown = [...flags].every((flag) => ["--list", "--update"].includes(flag));
  if (!["sidecar", "edge"].includes(tier) || !isKnown) {
    console.error("usage: node tests/conformance/run.mjs sidecar|edge [--suite DIR] [--list] [--update]");
    process.exit(64);
  }
  const suite = path.resolve(own[1] ?? path.join(here, "node_modules/http-cache-tests"));
  return { tier, suite, isOwnSuite: own.length > 0, flags };
}

/** The suite's files lie below `test-engine` since 2022. */
function engine(file) {
  const newer = path.join(suite, "test-engine", file);
  return existsSync(newer) ? newer : path.join(suite, file);
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

function start(program, args, env = {}) {
  const child = spawn(program, args, {
    cwd: suite,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise((done) => child.once("close", done));
  running.push(() => (child.kill(), ended));
  return { child, ended };
}

/** Resolves with the first text of a stream that the pattern matches. */
function until(stream, pattern) {
  return new Promise((found, failed) => {
    let text = "";
    stream.on("data", (data) => {
      text += data;
      const match = text.match(pattern);
      if (match) found(match);
    });
    stream.once("end", () => failed(new Error(`it ended: ${text}`)));
  });
}

async function startOrigin() {
  const port = await freePort();
  const { child } = start(process.execPath, ["--no-warnings", engine("server/server.mjs")], {
    npm_config_protocol: "http",
    npm_config_port: String(port),
    npm_config_pidfile: path.join(root, "target/cache-tests.pid"),
  });
  child.stderr.resume();
  await until(child.stdout, /listening|Listening/i);
  return `http://127.0.0.1:${port}`;
}

async function startSidecar(origin) {
  const program = process.env.SPILLWAY_BIN ?? path.join(root, "target/debug/spillway");
  const routes = path.join(here, "routes.toml");
  const ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
  const { child } = start(program, ["proxy", "--routes", routes, ...ports, "--app", origin]);
  const [, address] = await until(child.stderr, /"listen":"([^"]+)"/);
  return `http://${address}`;
}

async function startEdge(origin) {
  const { build, startWorker } = await import("../edge/support.mjs");
  const out = path.join(root, "target/edge-tests/conformance");
  build("--routes", path.join(here, "routes.toml"), "--out", out);
  const main = path.join(out, "index.js");
  const worker = await startWorker({ name: "conformance", main, vars: { SPILLWAY_ORIGIN: origin } });
  running.push(worker.stop);
  return worker.url.origin;
}

/** Runs the suite's own client; the results it prints. */
async function collect(base) {
  const { child, ended } = start(process.execPath, ["--no-warnings", engine("cli.mjs")], {
    npm_config_base: base,
    npm_config_id: "",
    npm_package_config_id: "",
  });
  const timer = setTimeout(() => child.kill(), RUN_MS_MAX);
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  child.stderr.resume();
  await ended;
  clearTimeout(timer);
  return output;
}
