//! `inject` and `uninject` on manifests as they are found: each becomes its golden file, and every
//! other front end makes the same of it. `UPDATE_GOLDEN=1` writes the golden files anew.

use inject::manifest::{self, for_each_pod};
use inject::refusal::{Caution, Reason};
use inject::{Options, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::{Ended, folder, peer, python, run};

/// Versions of Kubernetes that an injected manifest must be valid for.
const VERSIONS: [&str; 5] = ["1.33", "1.34", "1.35", "1.36", "1.37"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inject")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// One manifest as it is before, and the flags that its first line asks for.
struct Case {
    name: String,
    file: PathBuf,
    text: String,
    flags: Vec<String>,
}

fn cases() -> Vec<Case> {
    let entries = fs::read_dir(golden().join("in")).expect("the folder of manifests");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let case = |file: PathBuf| {
        let text = read(&file);
        let first = text.lines().next().unwrap_or_default();
        let flags = first.strip_prefix("# spillway inject ").unwrap_or_default();
        let flags = flags.split_whitespace().map(str::to_owned).collect();
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        Case { name, file, text, flags }
    };
    files.into_iter().map(case).collect()
}

impl Case {
    async fn injected(&self) -> Ended {
        let file = self.file.display().to_string();
        let mut arguments = vec!["inject", file.as_str()];
        arguments.extend(self.flags.iter().map(String::as_str));
        run(&arguments).await
    }

    fn golden_file(&self) -> PathBuf {
        golden().join("out").join(format!("{}.yaml", self.name))
    }
}

/// What was said, as comments, and what was printed.
fn shown(ended: &Ended) -> String {
    let mut text = format!("# exit {}\n", ended.code.expect("a code"));
    for line in ended.errors.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    text + &ended.output
}

fn values(text: &str) -> Vec<Value> {
    let documents = manifest::read(text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    documents.into_iter().map(|document| document.value).filter(|value| !value.is_null()).collect()
}

/// Every pod, as the API server would see it.
fn pods(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for mut value in values(text) {
        for_each_pod(&mut value, &mut |_, workload, pointer| {
            found.push(workload.pointer(pointer).expect("a pod").clone());
        });
    }
    found
}

fn was_injected(text: &str) -> bool {
    text.contains(": injected\n")
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
    let folder = folder();
    let mut files = Vec::new();
    for case in cases() {
        let golden = read(&case.golden_file());
        if was_injected(&golden) {
            let file = folder.path().join(format!("{}.yaml", case.name));
            let texts: Vec<String> = objects(&golden).iter().map(Value::to_string).collect();
            fs::write(&file, texts.join("\n---\n")).expect("a file");
            files.push(file.display().to_string());
        }
    }
    for version in VERSIONS {
        let mut arguments = vec!["-k", version, "--strict", "--quiet"];
        arguments.extend(files.iter().map(String::as_str));
        let ended = peer("kubernetes-validate", &arguments).await;
        let said = format!("{}{}", ended.output, ended.errors);
        assert!(ended.code == Some(0) && said.is_empty(), "{version}: {said}");
    }
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

/// The policy for these flags, as an object.
async fn policy(flags: &[String]) -> Value {
    let mut arguments = vec!["inject", "--policy"];
    arguments.extend(flags.iter().map(String::as_str));
    let ended = run(&arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    values(&ended.output).swap_remove(0)
}

/// A pod as it arrives at the API server: `metadata` is always there.
fn arriving(mut pod: Value) -> Value {
    if pod.get("metadata").is_none() {
        pod["metadata"] = serde_json::json!({});
    }
    pod
}

#[tokio::test]
async fn the_admission_policy_makes_the_same_pods_and_leaves_the_same_pods_alone() {
    let mut by_flags: BTreeMap<Vec<String>, Vec<(String, Value)>> = BTreeMap::new();
    for case in cases() {
        let is_native = !case.flags.contains(&"--container-mode".to_owned());
        for pod in pods(&case.text).into_iter().filter(|_| is_native) {
            let with_name = (case.name.clone(), arriving(pod));
            by_flags.entry(case.flags.clone()).or_default().push(with_name);
        }
    }
    let mut counts = (0, 0);
    for (flags, pods) in by_flags {
        let pods: Vec<_> = pods.into_iter().filter(|(_, pod)| has_containers(pod)).collect();
        let inputs: Vec<&Value> = pods.iter().map(|(_, pod)| pod).collect();
        let results = evaluated(&policy(&flags).await, &inputs).await;
        assert_eq!(results.len(), pods.len());
        for ((name, pod), result) in pods.iter().zip(results) {
            let wanted = match inject::inject(pod, &options(&flags)).outcome {
                Outcome::Injected { pod, .. } => pod,
                _ => pod.clone(),
            };
            assert_eq!(result, wanted, "{name}");
            let count = if wanted == *pod { &mut counts.1 } else { &mut counts.0 };
            *count += 1;
        }
    }
    assert!(counts.0 >= 30 && counts.1 >= 15, "injected, left alone: {counts:?}");
}

/// The API server refuses a pod without any before a policy sees it.
fn has_containers(pod: &Value) -> bool {
    pod.pointer("/spec/containers/0").is_some()
}

/// What the policy makes of the pods, by Google's CEL.
async fn evaluated(policy: &Value, pods: &[&Value]) -> Vec<Value> {
    let folder = folder();
    let file = folder.path().join("cases.json");
    let input = serde_json::json!({ "policy": policy, "pods": pods });
    fs::write(&file, input.to_string()).expect("a file");
    let environment = [("CASES".to_owned(), file.display().to_string())];
    let output = python(include_str!("../policy/evaluate.py"), &environment).await;
    serde_json::from_str(&output).expect("JSON")
}

/// The options that the program takes from these flags.
fn options(flags: &[String]) -> Options {
    let mut options = Options::default();
    for pair in flags.chunks(2) {
        let [flag, value] = pair else { panic!("{flags:?}: flags and values only") };
        match flag.as_str() {
            "--image" => options.image.clone_from(value),
            "--env-config" => options.env_config = Some(value.clone()),
            "--env-secret" => options.env_secret = Some(value.clone()),
            "--cpu-limit" => options.cpu_limit.clone_from(value),
            "--args" => options.args = vec![value.clone()],
            other => panic!("the tests do not know {other}"),
        }
    }
    options
}
