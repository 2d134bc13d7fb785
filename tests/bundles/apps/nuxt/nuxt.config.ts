export default defineNuxtConfig({ css: ["~/assets/style.css"], compatibilityDate: "2026-01-01" });
