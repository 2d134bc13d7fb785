//! Each manifest becomes its golden file, which is valid, is read by kubectl as it was meant, and can
//! be undone. `UPDATE_GOLDEN=1` writes the golden files anew.

use super::cases::{Case, cases, golden, read, values, was_injected};
use inject::refusal::{Caution, Reason};
use serde_json::Value;
use std::fs;
use std::path::Path;
use support::{Ended, Manifests, VERSIONS, folder, peer, run};

/// What was said, as comments, and what was printed.
fn shown(ended: &Ended) -> String {
    let mut text = format!("# exit {}\n", ended.code.expect("a code"));
    for line in ended.errors.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    text + &ended.output
}

#[tokio::test]
async fn every_manifest_becomes_its_golden_file() {
    let cases = cases();
    assert!(cases.len() >= 40, "only {} manifests", cases.len());
    let is_update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in &cases {
        let now = shown(&case.injected().await);
        if is_update {
            fs::write(case.golden_file(), &now).expect("a golden file");
        } else if read(&case.golden_file()) != now {
            wrong.push(format!("{}:\n{now}", case.name));
        }
    }
    assert!(wrong.is_empty(), "not as the golden file says:\n{}", wrong.join("\n"));
    let count = fs::read_dir(golden().join("out")).expect("the folder").count();
    assert_eq!(count, cases.len(), "a golden file without a manifest");
}

#[test]
fn every_reason_and_every_warning_is_shown_by_a_golden_file() {
    let all: String = cases().iter().map(|case| read(&case.golden_file())).collect();
    for reason in Reason::ALL {
        let text = format!("not injected: {}: ", reason.as_str());
        assert!(all.contains(&text), "no golden file shows {}", reason.as_str());
    }
    for caution in Caution::ALL {
        let text = format!("warning: {}: ", caution.as_str());
        assert!(all.contains(&text), "no golden file shows {}", caution.as_str());
    }
}

#[test]
fn every_name_is_in_the_guide() {
    let guide = read(&golden().join("../../../docs/injection.md"));
    let reasons = Reason::ALL.map(Reason::as_str);
    let cautions = Caution::ALL.map(Caution::as_str);
    let annotations = inject::names::ANNOTATIONS.map(|name| format!("spillway.dev/{name}"));
    let names = reasons.iter().chain(&cautions).map(|name| (*name).to_owned());
    for name in names.chain(annotations) {
        assert!(guide.contains(&format!("`{name}`")), "docs/injection.md lacks {name}");
    }
}

#[tokio::test]
async fn uninject_gives_back_what_there_was() {
    let folder = folder();
    let mut count = 0;
    for case in cases() {
        let golden = read(&case.golden_file());
        // That one was injected before this test.
        if !was_injected(&golden) || case.name == "already-injected" {
            continue;
        }
        let file = folder.path().join("injected.yaml");
        fs::write(&file, golden).expect("a file");
        let ended = run(&["uninject", &file.display().to_string()]).await;
        assert_eq!(ended.code, Some(0), "{}: {}", case.name, ended.errors);
        assert_eq!(values(&ended.output), values(&case.text), "{}", case.name);
        count += 1;
    }
    assert!(count >= 30, "only {count} manifests were injected");
}

#[tokio::test]
async fn a_second_run_changes_no_letter() {
    let folder = folder();
    for case in cases() {
        let first = case.injected().await.output;
        let file = folder.path().join("injected.yaml");
        fs::write(&file, &first).expect("a file");
        let again = Case { file, ..case };
        assert_eq!(again.injected().await.output, first, "{}", again.name);
    }
}

/// The objects one by one and with a name each: the validator knows no List and no generateName.
fn objects(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for mut value in values(text) {
        match value.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => found.append(items),
            None => found.push(value),
        }
    }
    for object in &mut found {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        if let Some(name) = metadata.remove("generateName") {
            metadata.insert("name".to_owned(), name);
        }
    }
    found
}

#[tokio::test]
async fn every_injected_manifest_is_valid_for_every_supported_version() {
    let goldens = cases().into_iter().map(|case| read(&case.golden_file()));
    let injected: Vec<String> = goldens
        .filter(|golden| was_injected(golden))
        .flat_map(|golden| objects(&golden).iter().map(Value::to_string).collect::<Vec<_>>())
        .collect();
    assert!(!injected.is_empty());
    let manifests = Manifests::new(injected.join("\n---\n")).await;
    assert_eq!(manifests.faults(&VERSIONS).await, Vec::<String>::new());
}

/// What kubectl understands of the file, without a cluster.
async fn kubectl_reads(file: &Path) -> Value {
    let file = file.display().to_string();
    let ended =
        peer("kubectl", &["label", "--local", "--output=json", "-f", &file, "seen=yes"]).await;
    assert_eq!(ended.code, Some(0), "{file}: {}", ended.errors);
    serde_json::from_str(&ended.output).expect("JSON")
}

#[tokio::test]
async fn kubectl_reads_the_same_before_and_after() {
    let folder = folder();
    for name in ["yaml-traps", "anchors", "mesh-vault-agent", "restricted"] {
        let case = cases().into_iter().find(|case| case.name == name).expect("the case");
        let file = folder.path().join("undone.yaml");
        let undone = run(&["uninject", &case.golden_file().display().to_string()]).await;
        fs::write(&file, undone.output).expect("a file");
        assert_eq!(kubectl_reads(&file).await, kubectl_reads(&case.file).await, "{name}");
    }
}

/// Texts that some reader of YAML takes for something else.
fn tricky() -> impl Iterator<Item = String> {
    let known =
        ["", "y", "No", "on", "~", "null", "012", "0o7", "0x1", "1e3", "1_0", ".5", "-1", "+1"];
    let more =
        ["1:30", "12:30:45", "2026-11-24", "=", "<<", "a: b", "a #b", "- a", "? a", "! a", "&a"];
    let odd =
        ["*a", "%a", "@a", "`a", "'", "\"", "\\", " a ", "a\n", "a\nb", "\na", "a\n\n", " a\nb"];
    let rare = [
        "\t",
        "a\tb",
        "\u{85}",
        "a\u{2028}b",
        "\u{7f}",
        "\u{feff}",
        "é",
        "☃",
        "{a}",
        "[a]",
        ", ",
        "a:",
    ];
    known.into_iter().chain(more).chain(odd).chain(rare).map(str::to_owned)
}

#[tokio::test]
async fn kubectl_reads_every_tricky_text_as_it_was() {
    let mut object = serde_json::json!({ "apiVersion": "example.com/v1", "kind": "Texts", "metadata": { "name": "x" } });
    object["texts"] = tricky().collect();
    object["keys"] =
        tricky().map(|text| (text, Value::from(1))).collect::<serde_json::Map<_, _>>().into();
    let folder = folder();
    let file = folder.path().join("texts.yaml");
    fs::write(&file, inject::yaml::write(&object, None)).expect("a file");
    let read = kubectl_reads(&file).await;
    assert_eq!(read["texts"], object["texts"]);
    assert_eq!(read["keys"], object["keys"]);
}

fn named<'v>(items: &'v Value, name: &str) -> &'v Value {
    let mut items = items.as_array().expect("a list").iter();
    items.find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Its pod says for all containers what the injected sidecar says for itself.
fn own_words(mut sidecar: Value, pod: &Value) -> Value {
    let context = sidecar["securityContext"].as_object_mut().expect("a security context");
    context.retain(|key, value| pod.get(key) != Some(&*value));
    sidecar
}

#[test]
fn the_example_injected_is_the_example_written_by_hand() {
    let by_hand = golden().join("../../../k8s/base/application/market.yaml");
    let by_hand = &values(&read(&by_hand))[0]["spec"]["template"]["spec"];
    let injected = &values(&read(&golden().join("out/market.yaml")))[0]["spec"]["template"]["spec"];
    let sidecar = named(&injected["initContainers"], "spillway").clone();
    let sidecar = own_words(sidecar, &injected["securityContext"]);
    assert_eq!(&sidecar, named(&by_hand["initContainers"], "spillway"));
    assert_eq!(named(&injected["containers"], "market"), named(&by_hand["containers"], "market"));
    for volume in by_hand["volumes"].as_array().expect("volumes") {
        assert_eq!(named(&injected["volumes"], volume["name"].as_str().expect("a name")), volume);
    }
}
