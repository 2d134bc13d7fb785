import { defineConfig } from "astro/config";

// Small style sheets would be written into the page.
export default defineConfig({ build: { inlineStylesheets: "never" } });
