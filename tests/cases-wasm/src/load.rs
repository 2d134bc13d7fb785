//! `tests/cases/*.toml` as the JSON that [`crate::run_all`] takes.

use serde_json::{Value, json};
use std::{fs, path::Path};

/// Reads every file of the folder. A file holds `routes`, the text of a rules file, and a list
/// of `[[case]]`; a case may have `routes` of its own. Headers are tables, as in TOML one writes
/// them; the cases want pairs.
///
/// # Errors
/// Names the file, and every fault of its rules.
pub fn cases(folder: &Path) -> Result<Value, String> {
    let failed = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let entries = fs::read_dir(folder).map_err(|why| failed(folder, &why))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|why| failed(&path, &why))?;
        let mut file: Value = toml::from_str(&text).map_err(|why| failed(&path, &why))?;
        let shared = file["routes"].take();
        let Value::Array(cases) = file["case"].take() else {
            return Err(failed(&path, &"has no [[case]]"));
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for case in cases {
            all.push(prepared(case, &shared, &stem).map_err(|why| failed(&path, &why))?);
        }
    }
    Ok(Value::Array(all))
}

fn prepared(mut case: Value, shared: &Value, file: &str) -> Result<Value, String> {
    let name = case["name"].as_str().unwrap_or("?").to_owned();
    let fields = case.as_object_mut().ok_or("a case is no table")?;
    let own = fields.remove("routes");
    let routes = own.as_ref().unwrap_or(shared).as_str().ok_or(format!("{name}: no routes"))?;
    let checked = rules::file::check(routes).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("{name}: {}", faults.join("\n"))
    })?;
    let document = serde_json::to_value(&checked.document).map_err(|why| why.to_string())?;
    fields.insert("rules".to_owned(), document);
    fields.insert("name".to_owned(), json!(format!("{file}: {name}")));
    for part in ["request", "response", "stored", "other"] {
        if let Some(headers) = fields.get_mut(part).and_then(|part| part.get_mut("headers")) {
            *headers = pairs(headers);
        }
    }
    Ok(case)
}

/// `{ Accept = "a", Cookie = ["b", "c"] }` → `[["accept", "a"], ["cookie", "b"], ["cookie", "c"]]`
fn pairs(headers: &Value) -> Value {
    let mut pairs = Vec::new();
    for (name, value) in headers.as_object().into_iter().flatten() {
        let name = name.to_ascii_lowercase();
        match value {
            Value::Array(values) => pairs.extend(values.iter().map(|value| json!([name, value]))),
            value => pairs.push(json!([name, value])),
        }
    }
    Value::Array(pairs)
}
