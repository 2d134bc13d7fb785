export function show(sources) {
  document.body.append("SPILLWAY-BUNDLES-1");
  document.body.append(...sources.map((source) => Object.assign(new Image(), { src: source })));
}
