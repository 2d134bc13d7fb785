import { defineEnvVars } from "@sveltejs/kit/env";

export const variables = defineEnvVars({
  SHOP_NAME: { public: true, schema: (value) => value ?? "a shop without a name" },
});
