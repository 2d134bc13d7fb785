// The real program and a real browser.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";
import { startProgram } from "../support/spillway.mjs";

export const root = path.resolve(import.meta.dirname, "../..");

/** Whatever a page is waited for comes within this, or never. */
export const PATIENCE = 30_000;

/** Chromium, found by `cargo xtask test`. */
export async function startBrowser(...more) {
  const executablePath = process.env.SPILLWAY_CHROMIUM;
  if (!executablePath) throw new Error("set SPILLWAY_CHROMIUM, or run `cargo xtask test`");
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...more];
  return chromium.launch({ executablePath, args });
}

/** A sidecar and a consumer on one folder, in front of `app`. */
export async function startSpillway(rules, app, queue = "work") {
  const folder = mkdtempSync(path.join(tmpdir(), "spillway-browser-"));
  const routes = path.join(folder, "routes.toml");
  writeFileSync(routes, rules);
  const files = `file:${folder}`;
  const common = ["--routes", routes, "--app", app, "--queue", `${queue}=${files}`, "--results", files, "--spool", folder];
  const running = [];
  const start = async (command, ...more) => {
    const secret = { SPILLWAY_SECRET: "browser-browser-browser-browser-browser" };
    const { listen, child } = await startProgram([command, ...common, ...more], secret);
    running.push(child);
    return listen;
  };
  const listen = await start("proxy", "--listen", "127.0.0.1:0");
  return {
    url: `http://${listen}`,
    consume: () => start("consume"),
    stop() {
      for (const child of running) child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Answers a request when it is told to. */
export function held() {
  let release;
  const released = new Promise((done) => (release = done));
  let arrive;
  const arrived = new Promise((done) => (arrive = done));
  return { arrived, release, async hold(request) { arrive(request); await released; } };
}
