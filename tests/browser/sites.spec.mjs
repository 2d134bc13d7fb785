// A page of another site and the jobs of a user whose cookie the browser sends everywhere
// (SameSite=None), in Chromium.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startOrigin } from "../support/origin.mjs";
import { PATIENCE, startBrowser, startSpillway } from "./support.mjs";

const rules = `
[[route]]
name  = "nobody"
match = { path = "/nobody", methods = ["POST"] }
[route.offload]
queue = "work"
when  = "always"
auth  = { check = "/session", identity = "check:X-User-Id", keep = ["X-User-Id"] }

[[route]]
name  = "caller"
match = { path = "/caller", methods = ["POST"] }
[route.offload]
queue     = "work"
when      = "always"
replay_as = "caller"
auth      = { check = "/session", identity = "check:X-User-Id" }

[queue.work]
`;

let browser, app, evil, spillway;

before(async () => {
  app = await startOrigin();
  evil = await startOrigin();
  evil.url = evil.url.replace("127.0.0.1", "evil.test");
  app.on("/session", (request, response) => {
    const isAlice = /session=alice/.test(request.headers.cookie);
    response.writeHead(isAlice ? 200 : 401, isAlice ? { "x-user-id": "alice" } : {}).end();
  });
  app.answer("/nobody", 200, { "content-type": "text/html" }, "<h1>Done</h1>");
  // As frameworks do: what changes something must come from the own origin.
  app.on("/caller", (request, response) => {
    const isOwn = request.headers.origin === spillway.local;
    response.writeHead(isOwn ? 200 : 403, { "content-type": "text/html" });
    response.end(isOwn ? "<h1>Done</h1>" : "<h1>Forged</h1>");
  });
  spillway = await startSpillway(rules, app.url);
  spillway.local = spillway.url.replace("127.0.0.1", "localhost");
  await spillway.consume();
  browser = await startBrowser("--host-resolver-rules=MAP evil.test 127.0.0.1");
});

after(async () => {
  await browser?.close();
  spillway?.stop();
  await app?.stop();
  await evil?.stop();
});

async function open() {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const cookie = { name: "session", value: "alice", domain: "localhost", path: "/", sameSite: "None", secure: true };
  await context.addCookies([cookie]);
  return context.newPage();
}

const form = (action) => `<!doctype html><form method=post action="${action}"><button>Send</button></form>`;

test("a form of another site is refused, and one of the application's is done", async () => {
  const page = await open();
  evil.answer("/", 200, { "content-type": "text/html" }, form(`${spillway.local}/nobody`));
  await page.goto(`${evil.url}/`);
  await page.getByRole("button").click();
  await page.getByText("cross-site").first().waitFor();
  assert.equal(app.count("/nobody"), 0);
  const asked = app.seen.filter(({ url }) => url === "/session");
  assert.equal(asked.length, 0, "the application is not even asked");
  app.answer("/form", 200, { "content-type": "text/html" }, form("/nobody"));
  await page.goto(`${spillway.local}/form`);
  await page.getByRole("button").click();
  await page.getByRole("heading", { name: "Done" }).waitFor();
  assert.equal(app.count("/nobody"), 1);
  await page.context().close();
});

test("a script of another site starts no job with the user's cookie", async () => {
  const page = await open();
  await page.goto(`${evil.url}/`);
  const send = (url) => fetch(url, { method: "POST", mode: "no-cors", credentials: "include", body: "x" }).then(() => true);
  const before = app.count("/nobody");
  assert.equal(await page.evaluate(send, `${spillway.local}/nobody`), true);
  const last = await fetch(`${spillway.url}/_spillway/problems/cross-site`);
  assert.equal(last.status, 200, "the refusal has a page");
  assert.equal(app.count("/nobody"), before);
  await page.context().close();
});

test("where the request travels as its caller's the application itself tells the other site", async () => {
  const page = await open();
  evil.answer("/", 200, { "content-type": "text/html" }, form(`${spillway.local}/caller`));
  await page.goto(`${evil.url}/`);
  await page.getByRole("button").click();
  await page.getByRole("heading", { name: "Forged" }).waitFor();
  assert.equal(app.seen.filter(({ url }) => url === "/caller").at(-1).headers.origin, evil.url);
  await page.context().close();
});
