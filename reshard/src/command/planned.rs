//! What is to move: as the command line asks for it, or as a file has it that `reshard plan --json` has printed.

use super::arguments::MoveArguments;
use super::stop::Stop;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The largest file of a plan in bytes: a move has less than a kilobyte, and nobody reviews thousands of them.
const PLAN_BYTES_MAX: u64 = 1024 * 1024;

/// One line of a plan. What it says of rows and bytes is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedMove {
    /// Always `plan`: the line is one of the events that `--json` prints.
    pub event: String,
    pub map: String,
    /// FROM..UNTIL.
    pub range: String,
    /// The owner when the plan was made. None on the command line, which leaves it to the map.
    pub from: Option<String>,
    pub to: String,
    /// `"schema"."table":"column"`.
    pub tables: Vec<String>,
    /// As the planner knew them.
    #[serde(default)]
    pub rows: u64,
    #[serde(default)]
    pub bytes: u64,
}

/// The event's name.
pub const EVENT: &str = "plan";

/// All moves that are asked for, in their order.
///
/// # Errors
/// Code 78 when the file can't be read.
pub fn planned(own: &MoveArguments) -> Result<Vec<PlannedMove>, Stop> {
    if let Some(file) = &own.plan {
        return read(file).map_err(|why| Stop::config(format!("--plan {}: {why}", file.display())));
    }
    let asked = &own.asked;
    let text = |own: &Option<String>| own.clone().unwrap_or_default();
    Ok(vec![PlannedMove {
        event: EVENT.to_owned(),
        map: text(&asked.map),
        range: text(&asked.range),
        from: None,
        to: text(&asked.to),
        tables: asked.tables.clone(),
        rows: 0,
        bytes: 0,
    }])
}

fn read(file: &Path) -> Result<Vec<PlannedMove>, String> {
    let bytes = std::fs::metadata(file).map_err(|why| why.to_string())?.len();
    if bytes > PLAN_BYTES_MAX {
        return Err(format!("it has {bytes} bytes, and at most {PLAN_BYTES_MAX} are read"));
    }
    moves(&std::fs::read_to_string(file).map_err(|why| why.to_string())?)
}

fn moves(text: &str) -> Result<Vec<PlannedMove>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (number, line) in lines {
        match serde_json::from_str::<PlannedMove>(line) {
            Ok(own) if own.event == EVENT => found.push(own),
            Ok(own) => {
                faults.push(format!("line {}: the event `{}` is no plan", number + 1, own.event))
            }
            Err(why) => faults.push(format!("line {}: {why}", number + 1)),
        }
    }
    match (faults.is_empty(), found.is_empty()) {
        (false, _) => {
            Err(format!("it is not what `reshard plan --json` prints\n  {}", faults.join("\n  ")))
        }
        (true, true) => Err("it has no move".to_owned()),
        (true, false) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_printed_and_all_its_faults_are_told() {
        let own = PlannedMove {
            event: EVENT.to_owned(),
            map: "market".to_owned(),
            range: "100..200".to_owned(),
            from: Some("b".to_owned()),
            to: "d".to_owned(),
            tables: vec![r#""public"."prices":"instrument_id""#.to_owned()],
            rows: 3,
            bytes: 4,
        };
        let line = serde_json::to_string(&own).expect("JSON");
        assert_eq!(moves(&format!("{line}\n\n{line}\n")), Ok(vec![own.clone(), own]));
        assert_eq!(moves("\n"), Err("it has no move".to_owned()));
        let other = line.replace("\"plan\"", "\"step\"");
        let why = moves(&format!("{other}\n{{\"mapp\": 1}}")).expect_err("two faults");
        assert!(why.contains("line 1: the event `step`"), "{why}");
        assert!(why.contains("line 2: unknown field `mapp`"), "{why}");
    }
}
