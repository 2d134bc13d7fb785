document.body.dataset.marker = "SPILLWAY-BUNDLES-1";
document.body.addEventListener("click", async () => {
  const { open } = await import("./details.js");
  open(document.body);
});
