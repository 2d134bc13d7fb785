// The Worker's entry. wasm-bindgen's `fetch` starts a fresh instance after a panic by itself.
import { fetch } from "./index.js";

export default { fetch: (request, env, context) => fetch(request, env, context) };
