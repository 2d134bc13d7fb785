// The folders above have lock files of their own, of which Next would take one for the root of the
// application.
export default { outputFileTracingRoot: import.meta.dirname, turbopack: { root: import.meta.dirname } };
