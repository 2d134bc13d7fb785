//! The live map, through `spillway shards`: it reads and changes the map, and this tool reads what it prints.

use crate::sql::KeyRange;
use rules::shard::change::{ChangeRefusal, MovePlan};
use rules::shard::object::{Changed, MapObject};
use rules::{UnixMillis, shard::ShardKey};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The variable by which the token of the admin ports reaches the child: its arguments can be read by all.
const TOKEN_VARIABLE: &str = "SPILLWAY_ADMIN_TOKEN";

/// What `spillway shards members` says of a process that nothing keeps from a move.
const FOLLOWS: &str = "follows";

/// One process that follows a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub pod: String,
    /// What keeps it from a move; none: it follows.
    pub hindrance: Option<String>,
}

/// How `spillway shards` is called.
#[derive(Debug, Clone, Default)]
pub struct Spillway {
    pub program: PathBuf,
    /// The rules file.
    pub rules: PathBuf,
    pub results: Option<String>,
    pub secret_file: Option<PathBuf>,
    pub map_key_file: Option<PathBuf>,
    pub sidecars: Vec<String>,
    /// File with the bearer token of the admin ports.
    pub admin_token_file: Option<PathBuf>,
}

/// Why `spillway shards` did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillwayError {
    /// The command, without its settings.
    pub command: String,
    /// Its exit code; none where it did not run, or a signal ended it.
    pub code: Option<i32>,
    pub why: String,
}

impl fmt::Display for SpillwayError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`spillway {}`: {}", self.command, self.why)
    }
}

impl std::error::Error for SpillwayError {}

impl Spillway {
    /// `spillway` beside this program, else the one of `PATH`.
    pub fn beside_us() -> PathBuf {
        let beside = std::env::current_exe().ok().map(|own| own.with_file_name("spillway"));
        beside.filter(|program| program.is_file()).unwrap_or_else(|| "spillway".into())
    }

    /// Runs `spillway shards …` and returns the events that it printed.
    ///
    /// # Errors
    /// When it can't be started, or ends with another code than 0.
    pub async fn shards(&self, arguments: &[&str]) -> Result<Vec<Value>, SpillwayError> {
        let command = format!("shards {}", arguments.join(" "));
        let failed = |code, why: String| SpillwayError { command: command.clone(), code, why };
        let mut child = Command::new(&self.program);
        child.arg("shards").args(arguments).arg("--json").args(self.settings());
        if let Some(file) = &self.admin_token_file {
            let token = std::fs::read_to_string(file);
            let token = token.map_err(|why| failed(None, format!("{}: {why}", file.display())))?;
            child.env(TOKEN_VARIABLE, token.trim());
        }
        child.stdin(Stdio::null()).kill_on_drop(true);
        let output = child.output().await;
        let output =
            output.map_err(|why| failed(None, format!("{}: {why}", self.program.display())))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.trim().trim_start_matches("spillway: ").to_owned();
            return Err(failed(output.status.code(), why));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().map(|line| {
            serde_json::from_str(line)
                .map_err(|why| failed(output.status.code(), format!("it printed no JSON: {why}")))
        });
        lines.collect()
    }

    fn settings(&self) -> Vec<String> {
        let file = |name: &str, path: &Option<PathBuf>| {
            path.as_deref().map(Path::display).map(|path| format!("--{name}={path}"))
        };
        let mut found: Vec<String> = [
            Some(format!("--routes={}", self.rules.display())),
            file("secret-file", &self.secret_file),
            file("map-key-file", &self.map_key_file),
            self.results.as_ref().map(|results| format!("--results={results}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        found.extend(self.sidecars.iter().map(|name| format!("--sidecars={name}")));
        found
    }

    /// The processes that follow the map, each with what keeps it from a move. Without addresses nobody is asked.
    ///
    /// # Errors
    /// When an address leads nowhere, or the map can't be had.
    pub async fn members(&self, map: &str) -> Result<Vec<Member>, SpillwayError> {
        let events = self.shards(&["members", map]).await?;
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let members = events.iter().filter(|event| event["event"] == "member");
        Ok(members
            .map(|event| Member {
                pod: text(event, "pod"),
                hindrance: Some(text(event, "standing")).filter(|own| own != FOLLOWS),
            })
            .collect())
    }

    /// The map as the store has it.
    ///
    /// # Errors
    /// When it can't be had, or is no map that this program knows.
    pub async fn map(&self, name: &str) -> Result<MapObject, SpillwayError> {
        let arguments = ["show", name];
        let events = self.shards(&arguments).await?;
        let failed =
            |why: String| SpillwayError { command: format!("shards show {name}"), code: None, why };
        let is_map = |event: &&Value| event["event"] == "map";
        let event = events.iter().find(is_map).cloned();
        let mut event = event.ok_or_else(|| failed("it printed no map".to_owned()))?;
        if let Some(fields) = event.as_object_mut() {
            fields.remove("event");
        }
        MapObject::read(event.to_string().as_bytes()).map_err(|why| failed(why.to_string()))
    }
}

/// The owner of a range that may move to the target now.
///
/// # Errors
/// When the range lies outside the map or over two owners, the target owns it already, or another move is under
/// way.
pub fn source(object: &MapObject, range: &KeyRange, target: &str) -> Result<String, ChangeRefusal> {
    let text = |end: Option<&ShardKey>| end.map(ShardKey::to_string);
    let plan = MovePlan {
        id: "asked".to_owned(),
        from: text(range.from()),
        until: text(range.until()),
        target: target.to_owned(),
        driver: "reshard".to_owned(),
    };
    let changed = Changed { by: String::new(), at: UnixMillis(0), why: String::new() };
    let announced = object.announce(plan, changed)?;
    // An announce that succeeds has a move.
    announced.moving.map(|own| own.source).ok_or(ChangeRefusal::NoSuchMove)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::document::KeyType;
    use serde_json::json;

    fn object() -> MapObject {
        let range = |from: &str, shard: &str| json!({ "from": from, "shard": shard, "since": 1, "state": "active" });
        let object = json!({
            "format": 1, "map": "m", "key_type": "int", "epoch": 2,
            "ranges": [range("1", "a"), range("100", "b"), range("200", "b")],
            "until": "300", "outside": null, "move": null,
            "changed": { "by": "t", "at": 0, "why": "" }, "mac": "",
        });
        MapObject::read(object.to_string().as_bytes()).expect("a map")
    }

    #[test]
    fn the_map_says_who_owns_a_range_or_why_it_can_not_move() {
        let asked = |text, target| {
            let range = KeyRange::parse(KeyType::Int, text).expect(text);
            source(&object(), &range, target).map_err(|why| why.name())
        };
        assert_eq!(asked("150..250", "d").as_deref(), Ok("b"));
        assert_eq!(asked("50..150", "d"), Err("several-owners"));
        assert_eq!(asked("150..160", "b"), Err("same-owner"));
        assert_eq!(asked("250..301", "d"), Err("bad-range"));
        assert_eq!(asked("0..2", "d"), Err("bad-range"));
        assert_eq!(asked("250..", "d"), Err("bad-range"));
    }
}
