//! `reshard preflight`: everything that would stop a move, at once.

use super::arguments::MoveArguments;
use super::given::GivenConnections;
use super::open::{addresses, endpoint, first_wanted};
use super::stop::Stop;
use crate::moved::{Move, MoveId};
use crate::preflight::{Evidence, Fault, FaultKind, MapFacts, Reachable, gather, judge};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// Looks at both servers and says what is wrong.
///
/// # Errors
/// Code 78 when an argument is wrong, 1 when something would stop the move.
pub async fn preflight(own: &MoveArguments) -> Result<(), Stop> {
    let accepted = accepted(&own.accept)?;
    let addresses = addresses(&own.connections)?;
    let wanted = first_wanted(own).await?;
    let moved = wanted.from_owner(MoveId(0))?;
    let source = endpoint(&addresses, &moved.source)?;
    let target = endpoint(&addresses, &moved.target)?;
    let given = GivenConnections::read(own, &addresses)?;
    let databases = [&source, &target].map(|own| given.reachable(own));
    checked(own, accepted, (&moved, wanted.map), databases).await
}

/// The same for a move whose map and databases are known: the source's first.
///
/// # Errors
/// As [`preflight`].
pub async fn checked(
    own: &MoveArguments,
    accepted: Vec<FaultKind>,
    (moved, map): (&Move, MapFacts),
    databases: [Reachable<'_>; 2],
) -> Result<(), Stop> {
    let (drain, window) = (Duration::from_secs(own.switch.drain), Duration::from_secs(own.measure));
    let evidence = gather(moved, map, databases, drain, window).await?;
    let findings = Findings { faults: judge(moved, &evidence), accepted };
    let text = if own.json { findings.lines() } else { findings.text(moved, &evidence) };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Stop::run)?;
    match findings.open().count() {
        0 => Ok(()),
        count => Err(Stop::run(format!("{count} faults would stop the move; nothing was changed"))),
    }
}

/// Reads `--accept`.
///
/// # Errors
/// Code 78 when a name is none, or of a fault that nobody can accept.
pub fn accepted(names: &[String]) -> Result<Vec<FaultKind>, Stop> {
    let kind = |name: &String| {
        let found = FaultKind::ALL.iter().find(|kind| kind.name() == name);
        let kind = found
            .ok_or_else(|| Stop::config(format!("--accept {name}: no fault has that name")))?;
        if kind.is_acceptable() {
            return Ok(*kind);
        }
        Err(Stop::config(format!("--accept {name}: a move can't go on with that; mend it")))
    };
    names.iter().map(kind).collect()
}

/// What was found, and what of it a person accepts.
struct Findings {
    faults: Vec<Fault>,
    accepted: Vec<FaultKind>,
}

impl Findings {
    fn is_accepted(&self, fault: &Fault) -> bool {
        self.accepted.contains(&fault.kind)
    }

    fn open(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| !self.is_accepted(fault))
    }

    /// One JSON object for each fault, and one at the end.
    fn lines(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for fault in &self.faults {
            let Fault { kind, shard, subject, what, remedy } = fault;
            let line = json!({
                "event": "fault", "name": kind.name(), "shard": shard, "subject": subject, "what": what,
                "remedy": remedy, "accepted": self.is_accepted(fault),
            });
            lines.push(format!("{line}\n"));
        }
        let open = self.open().count();
        let end =
            json!({ "event": "preflight", "faults": open, "accepted": self.faults.len() - open });
        lines.push(format!("{end}\n"));
        lines.concat()
    }

    /// For people: by shard and table, what is wrong and how to mend it.
    fn text(&self, moved: &Move, evidence: &Evidence) -> String {
        let mut text = String::new();
        for shard in [&moved.source, &moved.target] {
            let mut subjects: Vec<&str> = Vec::new();
            let own = || self.faults.iter().filter(|fault| fault.shard == *shard);
            for fault in own() {
                if !subjects.contains(&fault.subject.as_str()) {
                    subjects.push(&fault.subject);
                }
            }
            for subject in subjects {
                text.push_str(&format!("shard {shard}, {subject}\n"));
                for fault in own().filter(|fault| fault.subject == subject) {
                    let mark = if self.is_accepted(fault) { " (accepted)" } else { "" };
                    let (name, how) = (fault.kind.name(), how(fault));
                    text.push_str(&format!("  {name}{mark}: {}\n    {how}\n", fault.what));
                }
            }
        }
        text.push_str(&self.summary(moved, evidence));
        text
    }

    fn summary(&self, moved: &Move, evidence: &Evidence) -> String {
        let (range, source, target) = (&moved.range, &moved.source, &moved.target);
        let bytes: u64 = evidence.rows.iter().map(|rows| rows.bytes).sum();
        let tables: Vec<String> = moved.tables.iter().map(|own| own.name.shown()).collect();
        let tables = tables.join(", ");
        format!(
            "{range} of map {} from {source} to {target}: {tables}\n\
             some {} MiB will be written at {target}; SQL does not say how much room its disk has\n\
             from begin to end of the move TRUNCATE of these tables is refused, and every UPDATE that takes a row into the range or out of it\n\
             {}\n",
            moved.map,
            bytes.div_ceil(1024 * 1024),
            match self.open().count() {
                0 => "nothing stands in its way".to_owned(),
                1 => "one fault stands in its way".to_owned(),
                count => format!("{count} faults stand in its way"),
            }
        )
    }
}

fn how(fault: &Fault) -> String {
    if fault.kind.is_acceptable() {
        format!("{} (or --accept {})", fault.remedy, fault.kind.name())
    } else {
        fault.remedy.clone()
    }
}
