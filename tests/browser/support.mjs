// The real program and a real browser.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import { chromium } from "playwright-core";

export const root = path.resolve(import.meta.dirname, "../..");

/** Whatever a page is waited for comes within this, or never. */
export const PATIENCE = 30_000;

/** Chromium, found by `cargo xtask test`. */
export async function startBrowser() {
  const executablePath = process.env.SPILLWAY_CHROMIUM;
  if (!executablePath) throw new Error("set SPILLWAY_CHROMIUM, or run `cargo xtask test`");
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath, args });
}

/** A sidecar and a consumer on one folder, in front of `app`. */
export async function startSpillway(rules, app) {
  const folder = mkdtempSync(path.join(tmpdir(), "spillway-browser-"));
  const routes = path.join(folder, "routes.toml");
  writeFileSync(routes, rules);
  const files = `file:${folder}`;
  const common = ["--routes", routes, "--admin", "127.0.0.1:0", "--app", app, "--queue", `work=${files}`, "--results", files, "--spool", folder];
  const running = [];
  const start = async (command, ...more) => {
    const child = spawn(process.env.SPILLWAY_BIN, [command, ...common, ...more], {
      env: { ...process.env, SPILLWAY_SECRET: "browser-browser-browser-browser-browser" },
      stdio: ["ignore", "inherit", "pipe"],
    });
    running.push(child);
    const lines = readline.createInterface({ input: child.stderr });
    return new Promise((listening, failed) => {
      child.once("exit", (code) => failed(new Error(`spillway ${command} ended: ${code}`)));
      lines.on("line", (line) => {
        const said = JSON.parse(line);
        if (said.message === "listening") listening(said.listen);
      });
    });
  };
  const listen = await start("proxy", "--listen", "127.0.0.1:0");
  return {
    url: `http://${listen}`,
    consume: () => start("consume"),
    stop() {
      for (const child of running) child.removeAllListeners("exit").kill("SIGKILL");
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
