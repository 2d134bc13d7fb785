// A visitor with Chromium on pages that are cached: goes to and fro within the page until what the pages
// depend on is known. Then no request for components is redirected, and they come from the cache. Prints
// what is not so; nothing is right.
import { chromium } from "playwright-core";

const ROUNDS = 4;
/** What an unknown field may cost in redirects, over all rounds. */
const REDIRECTS_MAX = 4;

const [address] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.SPILLWAY_CHROMIUM, args: ["--no-sandbox"] });
try {
  const redirects = [];
  let answers = [];
  for (let round = 1; round <= ROUNDS; round++) {
    answers = [];
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => console.log(`a script failed: ${error}`));
    page.on("requestfailed", (request) => {
      const why = request.failure()?.errorText;
      if (why !== "net::ERR_ABORTED") console.log(`${why} ${request.url()}`);
    });
    page.on("response", (answer) => {
      if (!answer.url().includes("_rsc")) return;
      answers.push(`${answer.status()} ${answer.headers()["cache-status"]}`);
      if (answer.status() >= 300) redirects.push(answer.url());
    });
    await page.route("**/favicon.ico", (route) => route.fulfill({ body: "" }));
    await page.goto(`${address}/`);
    await page.getByText("alive").waitFor();
    await page.evaluate(() => { window.sameDocument = true; });
    await page.locator("#first").click();
    await page.getByRole("heading", { name: "Post first" }).waitFor();
    await page.goBack();
    await page.locator("#first").waitFor();
    if (!await page.evaluate(() => window.sameDocument)) console.log("it loaded a new document");
    await page.waitForLoadState("networkidle");
    await context.close();
  }
  if (redirects.length > REDIRECTS_MAX) console.log(`${redirects.length} redirects`, ...redirects);
  if (answers.length === 0) console.log("no components were asked for");
  for (const answer of answers) {
    if (!answer.startsWith("200") || !answer.includes("; hit")) console.log(`in the end: ${answer}`);
  }
} catch (error) {
  console.log(`${error}`);
} finally {
  await browser.close();
}
