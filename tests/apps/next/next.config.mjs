// No telemetry, no type check: what is under test is the server that comes of it.
export default { poweredByHeader: true, typescript: { ignoreBuildErrors: true } };
