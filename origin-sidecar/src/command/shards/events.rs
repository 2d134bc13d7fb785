//! What a command says: sentences for people, or one JSON object per line for programs.

use super::super::stop::Stop;
use rules::shard::coordinate::Laggard;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};

/// Standard output in one of the two forms.
pub(super) struct Events {
    is_json: bool,
}

impl Events {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Says one event: a sentence, or the facts under the event's name.
    pub(super) fn say(&self, event: &str, facts: Value, sentence: &str) -> Result<(), Stop> {
        let mut out = std::io::stdout().lock();
        if self.is_json {
            let mut line = json!({ "event": event });
            if let (Some(line), Value::Object(facts)) = (line.as_object_mut(), facts) {
                line.extend(facts);
            }
            writeln!(out, "{line}").map_err(Stop::run)
        } else {
            writeln!(out, "{sentence}").map_err(Stop::run)
        }
    }

    /// Asks before a change, where a person can answer.
    ///
    /// # Errors
    /// When the answer is no, or nobody can give one.
    pub(super) fn confirm(&self, is_confirmed: bool) -> Result<(), Stop> {
        if is_confirmed {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Stop::run("nobody can be asked: add --yes"));
        }
        let mut error = std::io::stderr().lock();
        write!(error, "Go on? [y/N] ").and_then(|()| error.flush()).map_err(Stop::run)?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(Stop::run)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Stop::run("nothing was changed"))
        }
    }
}

/// One line for each member that has not followed.
pub(super) fn listed(laggards: &[Laggard]) -> String {
    let lines = laggards
        .iter()
        .map(|own| format!("  {} {} {}", own.who, own.why, own.detail).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}
