// The job page, with and without JavaScript, and the snippet of docs/offload.md, in Chromium.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { startOrigin } from "../support/origin.mjs";
import { PATIENCE, held, root, startBrowser, startSpillway } from "./support.mjs";

const rules = (origin) => `
[[route]]
name  = "reports"
match = { path = "/reports", methods = ["POST"] }
cors  = { origins = ["${origin}"], credentials = true }
[route.offload]
queue = "work"
when  = "always"
auth  = { check = "/session", identity = "check:X-User-Id" }

[queue.work]
message = "Your report is being made."
`;

const form = "<!doctype html><title>Reports</title><form method=post action=/reports><input name=month value=May><button>Make it</button></form>";
const report = "<!doctype html><title>Report</title><h1>Report of May</h1>";

let browser, app, pages, spillway;

before(async () => {
  app = await startOrigin();
  // Another origin on the same host: the browser asks for CORS and sends the same cookies.
  pages = await startOrigin();
  pages.url = pages.url.replace("127.0.0.1", "localhost");
  app.on("/session", (request, response) => {
    const isAlice = /session=alice/.test(request.headers.cookie);
    response.writeHead(isAlice ? 200 : 401, isAlice ? { "x-user-id": "alice" } : {}).end();
  });
  app.answer("/", 200, { "content-type": "text/html" }, form);
  spillway = await startSpillway(rules(pages.url), app.url);
  spillway.local = spillway.url.replace("127.0.0.1", "localhost");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  spillway?.stop();
  await app?.stop();
  await pages?.stop();
});

async function open(options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE);
  await context.addCookies([{ name: "session", value: "alice", domain: "localhost", path: "/" }]);
  return context.newPage();
}

/** The app holds its answer back and says how far it is. */
function makeReports(type, body) {
  const gate = held();
  app.on("/reports", async (request, response) => {
    await gate.hold(request);
    response.writeHead(200, { "content-type": type }).end(body);
  });
  const say = async (percent, message) => {
    const { headers } = await gate.arrived;
    const authorization = headers["x-job-token"];
    const body = JSON.stringify({ percent, message });
    const said = await fetch(spillway.url + headers["x-job-progress"], { method: "PUT", headers: { authorization }, body });
    assert.equal(said.status, 204);
  };
  return { ...gate, say };
}

test("a form leads to a page that waits, shows progress and ends at the report", async () => {
  const reports = makeReports("text/html", report);
  const page = await open();
  await page.goto(`${spillway.local}/`);
  await page.getByRole("button").click();
  await page.getByRole("heading", { name: "Waiting" }).waitFor();
  assert.match(page.url(), /\/reports\?spillway-job=v1\./);
  assert.equal(await page.locator("#text").textContent(), "Your report is being made.");
  await spillway.consume();
  await page.getByRole("heading", { name: "Working" }).waitFor();
  await reports.say(40, "Reading May");
  await page.getByText("Reading May").waitFor();
  assert.equal(await page.locator("progress").evaluate((bar) => bar.value), 40);
  const picture = process.env.SPILLWAY_SCREENSHOT;
  const clip = { x: 320, y: 230, width: 640, height: 230 };
  if (picture) await page.screenshot({ path: picture, clip });
  reports.release();
  await page.getByRole("heading", { name: "Report of May" }).waitFor();
  assert.match(page.url(), /\/reports\?spillway-job=v1\./, "relative links lead where they would have led");
  await page.context().close();
});

test("without JavaScript the page reloads itself and ends at the report as well", async () => {
  const reports = makeReports("text/html", report);
  const page = await open({ javaScriptEnabled: false });
  await page.goto(`${spillway.local}/`);
  await page.getByRole("button").click();
  await reports.say(70, "Nearly there");
  await page.getByText("Nearly there").waitFor();
  reports.release();
  await page.getByRole("heading", { name: "Report of May" }).waitFor();
  await page.context().close();
});

test("a person can cancel without JavaScript", async () => {
  const reports = makeReports("text/html", report);
  const page = await open({ javaScriptEnabled: false });
  await page.goto(`${spillway.local}/`);
  await page.getByRole("button").click();
  await reports.arrived;
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("heading", { name: "Cancelled" }).waitFor();
  reports.release();
  await page.context().close();
});

test("the snippet of the documentation shows progress and gets the result from another origin", async () => {
  const reports = makeReports("application/json", '{"rows": 3}');
  const docs = readFileSync(path.join(root, "docs/offload.md"), "utf8");
  const snippet = docs.match(/```js\n(async function runJob[^]*?)```/)[1];
  assert.ok(snippet.trim().split("\n").length <= 25, "it is promised to have some 20 lines");
  const script = `${snippet}
    const seen = [];
    runJob("${spillway.local}/reports", "{}", (status, progress) => seen.push([status, progress?.percent]))
      .then(answer => answer.json())
      .then(json => { document.body.dataset.result = JSON.stringify({ json, seen }); })
      .catch(error => { document.body.dataset.result = String(error); });`;
  pages.answer("/", 200, { "content-type": "text/html" }, `<!doctype html><body><script>${script}</script>`);
  const page = await open();
  await page.goto(`${pages.url}/`);
  await reports.say(60, "half way");
  await page.waitForFunction(() => seen.some(([, percent]) => percent === 60));
  reports.release();
  await page.locator("body[data-result]").waitFor({ state: "attached" });
  const { json, seen } = JSON.parse(await page.locator("body").getAttribute("data-result"));
  assert.deepEqual(json, { rows: 3 });
  assert.deepEqual(seen.at(-1), ["succeeded", null]);
  assert.ok(seen.some(([status, percent]) => status === "running" && percent === 60), JSON.stringify(seen));
  await page.context().close();
});
