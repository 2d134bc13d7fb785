// One Worker in a real workerd, in front of an origin.
import { spawnSync } from "node:child_process";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { writeFileSync } from "node:fs";
import path from "node:path";

// wrangler asks cloudflare.com for these; the tests need no network.
Object.assign(process.env, {
  CI: "1",
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_SEND_ERROR_REPORTS: "false",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
});
const { unstable_startWorker: start } = await import("wrangler");

export const root = path.resolve(import.meta.dirname, "../..");

/** Builds a Worker by `cargo xtask edge`, which does nothing when nothing changed. */
export function build(...args) {
  const built = spawnSync("cargo", ["xtask", "edge", ...args], { cwd: root, encoding: "utf8" });
  if (built.status !== 0) throw new Error(`cargo xtask edge: ${built.error ?? built.stderr}`);
}

export { startOrigin } from "../support/origin.mjs";

/**
 * The edge worker with the rules of `tests/edge/routes.toml`, in front of `originUrl`; `vars` as a
 * deployment's variables and secrets; `secure` by HTTPS.
 */
export async function startEdge(originUrl, vars = {}, more = {}) {
  const out = path.join(root, "target/edge-tests/worker");
  build("--routes", path.join(root, "tests/edge/routes.toml"), "--out", out);
  return startWorker({
    name: "edge",
    main: path.join(out, "index.js"),
    vars: { SPILLWAY_ORIGIN: originUrl, ...vars },
    ...more,
  });
}

/**
 * As `wrangler dev` does it, whose requests to the origin leave workerd by its own HTTP client.
 * (`createTestHarness` would send them through Node's fetch, which follows redirects and answers
 * a refused connection with 500.)
 */
export async function startWorker({ name, main, vars = {}, secure = false }) {
  const config = path.join(path.dirname(main), `${name}.wrangler.json`);
  writeFileSync(config, JSON.stringify({ name, main, vars, compatibility_date: "2026-11-01" }));
  const worker = await start({
    config,
    dev: { server: { port: 0, secure }, inspector: false, persist: false, watch: false, logLevel: "error" },
  });
  const url = await worker.url;
  return {
    send: (target, options) => send(url, target, options),
    open: (target, options) => open(url, target, options),
    upload: (target) => upload(url, target),
    main,
    url,
    stop: () => worker.dispose(),
  };
}

/** Sends exactly this request target, unlike `fetch`, and reads the whole answer. */
export async function send(url, target, options) {
  const { response } = await open(url, target, options);
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  return {
    status: response.statusCode,
    headers: response.headers,
    lines: response.rawHeaders,
    body: Buffer.concat(chunks).toString(),
  };
}

/** Sends a request and returns as soon as the answer's head is there. */
function open(url, target, { method = "GET", headers = {}, body } = {}) {
  const { client, answered } = connect(url, target, method, headers);
  client.end(body);
  return answered.then((response) => ({ response }));
}

/** A POST whose body the test writes part by part. */
function upload(url, target) {
  const { client, answered } = connect(url, target, "POST", {});
  return {
    write: (part) => client.write(part),
    end: (part) => client.end(part),
    async body() {
      const chunks = [];
      for await (const chunk of await answered) chunks.push(chunk);
      return Buffer.concat(chunks).toString();
    },
  };
}

function connect(url, target, method, headers) {
  // The worker's certificate is of its own making.
  const request = url.protocol === "https:" ? httpsRequest : httpRequest;
  const client = request({
    rejectUnauthorized: false,
    host: url.hostname,
    port: url.port,
    path: target,
    method,
    headers: { host: "app.example", ...headers },
    agent: false,
  });
  const answered = new Promise((resolve, reject) => {
    client.on("response", resolve);
    client.on("error", reject);
  });
  return { client, answered };
}

/** The `spillway-edge` member of Cache-Status. */
export function cacheStatus(answer) {
  const members = (answer.headers["cache-status"] ?? "").split(", ");
  return members.filter((member) => member.startsWith("spillway-edge")).join(" and ");
}

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Waits until the condition holds; the caller's next assertion says what did not. */
export async function until(condition, withinMs = 5000) {
  const deadline = Date.now() + withinMs;
  while (!(await condition()) && Date.now() < deadline) await sleep(20);
}
