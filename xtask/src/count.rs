//! Tests counted over all runners.

use crate::setup::{self, Result, say};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Tests counted over all runners.
#[derive(Default)]
pub(crate) struct Count {
    passed: u64,
    failed: u64,
    /// Steps that could not run or ended badly.
    broken: Vec<String>,
}

impl Count {
    pub(crate) fn broken(&mut self, why: &str) {
        say(&format!("FAILED: {why}"));
        self.broken.push(why.to_owned());
    }

    /// A step that holds or not.
    pub(crate) fn check(&mut self, name: &str, command: &mut Command) {
        if let Err(error) = setup::run(name, command) {
            self.broken(&error);
        }
    }

    /// A test runner, whose results are read from what it prints.
    pub(crate) fn run(
        &mut self,
        name: &str,
        command: &mut Command,
        read: fn(&str) -> Option<(u64, u64)>,
    ) {
        say(name);
        let (before, mut last) = (self.passed + self.failed, None);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return self.broken(&format!("{name}: {command:?}: {error}")),
        };
        let errors =
            child.stderr.take().map(|errors| std::thread::spawn(move || show(errors, read)));
        if let Some(output) = child.stdout.take() {
            last = Some(show(output, read));
        }
        let from_errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let (passed, failed) = last.unwrap_or_default();
        self.passed += passed + from_errors.0;
        self.failed += failed + from_errors.1;
        let ended = child.wait().is_ok_and(|status| status.success());
        if !ended {
            self.broken(&format!("{name}: {command:?} failed"));
        } else if self.passed + self.failed == before {
            self.broken(&format!("{name} ran no test"));
        }
    }

    /// The checks of one real application.
    pub(crate) fn driver(&mut self, name: &str, command: Result<Command>) {
        match command {
            Ok(mut command) => self.run(name, &mut command, app_result),
            Err(error) => self.broken(&error),
        }
    }

    pub(crate) fn finish(self) -> Result<()> {
        for why in &self.broken {
            println!("broken: {why}");
        }
        // A broken step without a failed test of its own still counts as one failure.
        let failed = if self.failed == 0 { self.broken.len() as u64 } else { self.failed };
        println!("{} passed, {failed} failed", self.passed);
        if failed == 0 { Ok(()) } else { Err("the tests failed".to_owned()) }
    }
}

/// Shows the output as it comes and adds up its results.
pub(crate) fn show(output: impl std::io::Read, read: fn(&str) -> Option<(u64, u64)>) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
        println!("{line}");
        if let Some((passed, failed)) = read(&line) {
            sum = (sum.0 + passed, sum.1 + failed);
        }
    }
    sum
}

/// The number before a word: `21 passed`.
pub(crate) fn before(line: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> =
        line.split([' ', ';', ',', '(', ')', '=']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|own| *own == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// `test result: ok. 21 passed; 0 failed; …`
pub(crate) fn rust_result(line: &str) -> Option<(u64, u64)> {
    if !line.starts_with("test result:") {
        return None;
    }
    Some((before(line, "passed")?, before(line, "failed")?))
}

/// `# pass 12` and `# fail 0`
pub(crate) fn node_result(line: &str) -> Option<(u64, u64)> {
    let number = |name: &str| line.strip_prefix(name)?.trim().parse().ok();
    match (number("# pass "), number("# fail ")) {
        (Some(passed), _) => Some((passed, 0)),
        (_, Some(failed)) => Some((0, failed)),
        _ => None,
    }
}

/// `fuzz path: held` and `fuzz path: FAILED: …`
pub(crate) fn fuzz_result(line: &str) -> Option<(u64, u64)> {
    let (_, result) = line.strip_prefix("fuzz ")?.split_once(": ")?;
    Some(if result == "held" { (1, 0) } else { (0, 1) })
}

/// `Ran 30 tests in 3.6s` and `FAILED (failures=1, errors=2)`
pub(crate) fn python_result(line: &str) -> Option<(u64, u64)> {
    if let Some(rest) = line.strip_prefix("Ran ") {
        return Some((rest.split(' ').next()?.parse().ok()?, 0));
    }
    line.starts_with("FAILED (").then_some((0, 1))
}

/// `13 passed, 0 failed`
pub(crate) fn app_result(line: &str) -> Option<(u64, u64)> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}
