import "./details.css";

export function open(parent) {
  parent.append("Details of SPILLWAY-BUNDLES-1");
}
