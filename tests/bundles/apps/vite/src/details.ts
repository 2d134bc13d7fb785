import "./details.css";

export function open(parent: HTMLElement): void {
  parent.append("Details of SPILLWAY-BUNDLES-1");
}
