import "@fontsource/inter/latin-400.css";
import drawing from "./drawing.svg";
import photo from "./photo.png";
import "./style.css";

const shown: string[] = [drawing, photo];
document.body.dataset.marker = "SPILLWAY-BUNDLES-1";
document.body.append(...shown.map((source) => Object.assign(new Image(), { src: source })));
document.body.addEventListener("click", async () => {
  const { open } = await import("./details.ts");
  open(document.body);
});
