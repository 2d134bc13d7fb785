//= require ./shared
document.body.dataset.marker = "SPILLWAY-BUNDLES-1";
