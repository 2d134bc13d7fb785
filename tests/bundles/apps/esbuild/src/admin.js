import { show } from "./shared.js";

document.title = "Administration of SPILLWAY-BUNDLES-1";
show([]);
