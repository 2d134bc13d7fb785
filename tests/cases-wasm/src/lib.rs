//! The corpus of rule cases as one function over JSON, so that the same cases run natively and
//! inside workerd: both halves of Spillway must decide alike.

mod live;
mod observe;

#[cfg(feature = "load")]
pub mod load;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use wasm_bindgen::prelude::wasm_bindgen;

/// One request under one set of rules, and what must become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// A compiled document.
    rules: Value,
    request: Message,
    /// The origin's answer, when the case is about storing it.
    response: Option<Response>,
    /// The answer that is stored already: asked about by a 304, or served if the origin fails.
    stored: Option<Response>,
    /// How long before the request that was stored, in milliseconds.
    #[serde(default)]
    stored_ms_ago: u64,
    /// There is no answer of the origin, or none in time.
    #[serde(default)]
    is_unreachable: bool,
    /// The origin's answer is that to all that the client sent, after a redirect to the request's own path.
    #[serde(default)]
    is_whole: bool,
    /// A second request; `same_key` says whether it may be answered by the first's entry.
    other: Option<Message>,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(default = "get")]
    method: String,
    /// Scheme, host and target as they arrive.
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// The live maps that are known when it arrives, by name; of the others nothing is.
    #[serde(default)]
    live: BTreeMap<String, live::LiveMap>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

/// What must be among the observations; anything not named here is free.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    edge: Map<String, Value>,
    #[serde(default)]
    sidecar: Map<String, Value>,
}

fn get() -> String {
    "GET".to_owned()
}

fn ok() -> u16 {
    200
}

#[derive(Debug, Serialize)]
pub struct Outcome {
    pub name: String,
    pub passed: bool,
    /// Empty when passed.
    pub message: String,
}

/// Runs every case of a list.
///
/// # Errors
/// When the JSON is not a list of cases.
pub fn run_all(cases: &Value) -> Result<Vec<Outcome>, String> {
    let cases: Vec<Case> = Vec::deserialize(cases).map_err(|why| why.to_string())?;
    Ok(cases.iter().map(outcome).collect())
}

fn outcome(case: &Case) -> Outcome {
    let message = match differences(case) {
        Ok(differences) => differences.join("\n"),
        Err(why) => why,
    };
    Outcome { name: case.name.clone(), passed: message.is_empty(), message }
}

fn differences(case: &Case) -> Result<Vec<String>, String> {
    let rules =
        rules::Rules::from_compiled(&case.rules.to_string()).map_err(|why| why.to_string())?;
    if case.expect.edge.is_empty() && case.expect.sidecar.is_empty() {
        return Err("expects nothing, so it could not fail".to_owned());
    }
    let mut differences = Vec::new();
    let tiers = [
        ("edge", &case.expect.edge, observe::edge as observe::Observe),
        ("sidecar", &case.expect.sidecar, observe::sidecar as observe::Observe),
    ];
    for (tier, expected, observe) in
        tiers.into_iter().filter(|(_, expected, _)| !expected.is_empty())
    {
        let observed = observe::observe(&rules, case, observe)?;
        for (name, value) in expected {
            let found = observed.get(name).unwrap_or(&Value::Null);
            if found != value {
                differences.push(format!("{tier}.{name}: expected {value}, found {found}"));
            }
        }
    }
    Ok(differences)
}

/// The whole corpus as JSON in, a list of outcomes as JSON out.
#[wasm_bindgen]
pub fn run(cases: &str) -> Result<String, String> {
    let cases: Value = serde_json::from_str(cases).map_err(|why| why.to_string())?;
    serde_json::to_string(&run_all(&cases)?).map_err(|why| why.to_string())
}
