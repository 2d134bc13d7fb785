function show(text) {
  document.body.append(text, "SPILLWAY-BUNDLES-1");
}
