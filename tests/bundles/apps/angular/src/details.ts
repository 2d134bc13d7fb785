import { Component } from "@angular/core";

@Component({
  selector: "app-details",
  template: `<p>Details of SPILLWAY-BUNDLES-1</p>`,
  styles: `p { --details: "SPILLWAY-BUNDLES-1"; margin: 2em; }`,
})
export class Details {}
