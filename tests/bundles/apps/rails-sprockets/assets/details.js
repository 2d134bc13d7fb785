// Loaded by the application when it is asked for.
document.body.append("Details of SPILLWAY-BUNDLES-1");
