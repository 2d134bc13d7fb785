import drawing from "./drawing.svg";
import photo from "./photo.png";
import { show } from "./shared.js";
import "./style.css";

document.body.dataset.marker = "SPILLWAY-BUNDLES-1";
show([drawing, photo]);
document.body.addEventListener("click", async () => {
  const { open } = await import("./details.js");
  open(document.body);
});
