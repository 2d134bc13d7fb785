import { Component } from "@angular/core";
import { bootstrapApplication } from "@angular/platform-browser";
import { provideRouter, RouterLink, RouterOutlet } from "@angular/router";

@Component({
  selector: "app-root",
  imports: [RouterLink, RouterOutlet],
  template: `<a routerLink="/details" title="SPILLWAY-BUNDLES-1">Details</a><router-outlet />`,
})
class Root {}

const details = () => import("./details").then((loaded) => loaded.Details);
bootstrapApplication(Root, {
  providers: [provideRouter([{ path: "details", loadComponent: details }])],
});
