export function press(parent) {
  parent.append("Keys of SPILLWAY-BUNDLES-1");
}
