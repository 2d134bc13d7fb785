// Slow forms of frameworks in Chromium: Django as it is, and an application whose session cookie has another
// value after each answer, as Rails' cookie store and Laravel's sessions have.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { PASSWORD, startDjango } from "../support/django.mjs";
import { startOrigin } from "../support/origin.mjs";
import { PATIENCE, root, startBrowser, startSpillway } from "./support.mjs";

/** The rules that docs/frameworks.md gives. */
const recipe = (name) => readFileSync(path.join(root, `examples/frameworks/${name}-jobs.toml`), "utf8");

let browser, running;

before(async () => {
  browser = await startBrowser();
  running = [];
});

after(async () => {
  await browser?.close();
  for (const each of running.reverse()) await each.stop();
});

async function open(rules, app) {
  const spillway = await startSpillway(rules, app, "jobs");
  running.push(spillway);
  await spillway.consume();
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  return [await context.newPage(), spillway.url.replace("127.0.0.1", "localhost")];
}

test("a form of Django leads to its page, and a fault in it back to the form", async () => {
  const django = await startDjango(root, { DJANGO_PLAIN: "1" });
  running.push(django);
  const [page, url] = await open(recipe("django"), django.url);
  await page.goto(`${url}/import/`);
  await page.getByLabel("Username").fill("root");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByLabel("Name").fill("much too long");
  // Without the browser's own check.
  await page.locator("form").evaluate((form) => form.querySelector("[name=name]").removeAttribute("maxlength"));
  await page.getByLabel("Name").fill("much too long");
  await page.getByRole("button", { name: "Import" }).click();
  await page.getByText("at most 10 characters").waitFor();
  assert.match(page.url(), /\/import\/\?spillway-job=v1\./);
  await page.getByLabel("Name").fill("may");
  await page.getByRole("button", { name: "Import" }).click();
  await page.getByRole("heading", { name: "Imported may" }).waitFor();
  assert.equal(page.url(), `${url}/imports/may/`);
  // django.contrib.messages: said once, on the page after the form.
  await page.getByText("all rows are there").waitFor();
  await page.reload();
  await page.getByText("nothing new").waitFor();
});

/** What it knows of a browser lies in a cookie that is written anew in each answer. */
async function startRolling() {
  const app = await startOrigin();
  let number = 0;
  const user = (request) => /session=\d+-(\w+)/.exec(request.headers.cookie)?.[1];
  const answer = (request, response, status, fields, body) => {
    const cookie = `session=${++number}-${user(request) ?? "nobody"}; Path=/; HttpOnly`;
    response.writeHead(status, { "content-type": "text/html", "set-cookie": cookie, ...fields }).end(body);
  };
  const isKnown = (request) => user(request) === "ann";
  app.on("/log-in-as-ann", (_, response) =>
    response.writeHead(303, { "set-cookie": "session=0-ann; Path=/", location: "/form" }).end());
  app.on("/whoami", (request, response) =>
    answer(request, response, isKnown(request) ? 200 : 401, isKnown(request) ? { "x-user-id": "ann" } : {}));
  app.on("/form", (request, response) =>
    answer(request, response, 200, {}, "<form method=post action=/imports><input name=name><button>Import</button></form><a href=/other>Other</a>"));
  app.on("/other", (request, response) => answer(request, response, 200, {}, "<h1>Other</h1>"));
  app.on("/imports", async (request, response) => {
    await app.gate;
    answer(request, response, isKnown(request) ? 302 : 500, { location: "imports/7" });
  });
  app.on("/imports/7", (request, response) => answer(request, response, 200, {}, "<h1>Imported</h1>"));
  return app;
}

test("a session that changes with each answer loses no job", async () => {
  const app = await startRolling();
  running.push(app);
  let open_gate;
  app.gate = new Promise((done) => (open_gate = done));
  const [page, url] = await open(recipe("rails"), app.url);
  await page.goto(`${url}/log-in-as-ann`);
  await page.locator("input").fill("may");
  await page.getByRole("button", { name: "Import" }).click();
  await page.getByRole("heading", { name: "Working" }).waitFor();
  const job = page.url();
  // The user goes about meanwhile, and gets new cookies.
  await page.goto(`${url}/other`);
  await page.goto(`${url}/form`);
  await page.goto(job);
  await page.getByRole("heading", { name: "Working" }).waitFor();
  open_gate();
  await page.getByRole("heading", { name: "Imported" }).waitFor();
  assert.equal(page.url(), `${url}/imports/7`);
  assert.equal(app.count("/imports"), 1);
});
