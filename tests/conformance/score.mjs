// What the suite's results mean: a test counts only if those it depends on pass, and the three kinds
// of tests are told apart (required by the RFC; optimal; a check of what a cache does).

const KINDS = ["required", "optimal", "check"];

/** `suites` are the suite's definitions, `results` what its client printed. */
export function score(suites, results) {
  const tests = new Map();
  for (const suite of suites) {
    for (const test of suite.tests) if (!test.browser_only) tests.set(test.id, test);
  }
  const verdicts = new Map();
  const verdict = (id) => {
    if (!verdicts.has(id)) {
      // Before those it depends on: a circle of them ends here.
      verdicts.set(id, "circular");
      verdicts.set(id, judge(tests.get(id), results[id], verdict));
    }
    return verdicts.get(id);
  };
  const counts = Object.fromEntries(KINDS.map((kind) => [kind, { total: 0, pass: 0, open: 0 }]));
  for (const [id, test] of tests) {
    const count = counts[kind(test)];
    const result = verdict(id);
    count.total += 1;
    if (result === "pass") count.pass += 1;
    else if (result !== "fail") count.open += 1;
  }
  const of = (name) => `${counts[name].pass}/${counts[name].total}`;
  const why = (id) => `${verdict(id)}: ${results[id]?.[1] ?? "no result"}`;
  const failing = [...tests]
    .filter(([id, test]) => verdict(id) !== "pass" && kind(test) !== "check")
    .map(([id, test]) => `${kind(test)} ${id}: ${why(id)}`);
  return {
    table: `required ${of("required")}, ${counts.required.open} not applicable | optimal ${of("optimal")} | check ${of("check")}`,
    passed: [...tests.keys()].filter((id) => verdict(id) === "pass").sort(),
    failing,
    why,
  };
}

function kind(test) {
  return test.kind ?? "required";
}

function judge(test, result, verdict) {
  if (!test || result === undefined) return "untested";
  if ((test.depends_on ?? []).some((id) => verdict(id) !== "pass")) return "not-applicable";
  if (result === true) return "pass";
  return Array.isArray(result) && result[0] === "Setup" ? "setup" : "fail";
}
