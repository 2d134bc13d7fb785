// A Worker that answers with the outcomes of all cases.
import cases from "./cases.json";
import { run } from "./index.js";

export default {
  fetch: () => new Response(run(cases), { headers: { "content-type": "application/json" } }),
};
