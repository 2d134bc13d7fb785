// A visitor with Chromium: the page's scripts run, a link is followed within the page, a form is
// sent by the framework's own client. Prints what went wrong; nothing is right.
import { chromium } from "playwright-core";

const [address] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.SPILLWAY_CHROMIUM, args: ["--no-sandbox"] });
try {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => console.log(`a script failed: ${error}`));
  page.on("response", (answer) => {
    if (answer.status() >= 400) console.log(`${answer.status()} ${answer.url()}`);
  });
  await page.route("**/favicon.ico", (route) => route.fulfill({ body: "" }));
  await page.goto(`${address}/`);
  await page.getByText("alive").waitFor();
  await page.evaluate(() => { window.sameDocument = true; });
  await page.locator("#first").click();
  await page.getByRole("heading", { name: "Post first" }).waitFor();
  if (!await page.evaluate(() => window.sameDocument)) console.log("the link loaded a new document");
  await page.goto(`${address}/form`);
  await page.locator("input[name=name]").fill("third");
  await page.getByRole("button").click();
  await page.getByRole("heading", { name: "Post third" }).waitFor();
} catch (error) {
  console.log(`${error}`);
} finally {
  await browser.close();
}
