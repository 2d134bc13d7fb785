import drawing from "./drawing.svg";
import photo from "./photo.png";
import "./style.css";

document.body.dataset.marker = "SPILLWAY-BUNDLES-1";
for (const source of [drawing, photo]) {
  document.body.append(Object.assign(new Image(), { src: source }));
}
document.body.addEventListener("click", async () => {
  const { open } = await import(/* webpackChunkName: "details" */ "./details.js");
  open(document.body);
});
document.body.addEventListener("keydown", async () => {
  const { press } = await import("./keys.js");
  press(document.body);
});
