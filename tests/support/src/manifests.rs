//! Kubernetes manifests as kubectl and Helm make them, and as an API server would take them.

use crate::{emulator::installed, folder};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The versions that manifests are held to.
pub const VERSIONS: [&str; 5] = ["1.33", "1.34", "1.35", "1.36", "1.37"];

/// What is applied together.
pub struct Manifests {
    text: String,
    pub documents: Vec<Value>,
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

/// Runs a program of the tests' Python environment on this input.
async fn filter(program: &str, arguments: &[&str], input: &str) -> std::process::Output {
    let folder = folder();
    let file = folder.path().join("input");
    std::fs::write(&file, input).expect("a temporary file");
    let input = std::fs::File::open(&file).expect("what was just written");
    let mut command = Command::new(installed(program));
    command.args(arguments).current_dir(root()).stdin(Stdio::from(input));
    command.output().await.expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every document of a text in YAML.
///
/// # Panics
/// When it is not YAML.
pub async fn yaml(input: &str) -> Vec<Value> {
    let read = "import json, sys, yaml; json.dump([d for d in yaml.load_all(sys.stdin, yaml.CSafeLoader) if d], sys.stdout)";
    let output = filter("python", &["-c", read], input).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The chart's manifests, or its notes.
async fn rendered(values: &Value, is_notes: bool) -> Result<String, String> {
    let is_wanted = if is_notes { "" } else { "not " };
    let render = format!(
        "import json, sys\n\
        from helm_python.chart import Chart\n\
        rendered = Chart.load('k8s/chart').render(json.load(sys.stdin), name='spillway', namespace='spillway-system')\n\
        print('\\n---\\n'.join(text for name, text in rendered.items() if {is_wanted}name.endswith('NOTES.txt')))"
    );
    let output = filter("python", &["-c", &render], &values.to_string()).await;
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Manifests {
    pub async fn new(text: String) -> Self {
        Self { documents: yaml(&text).await, text }
    }

    /// What `kubectl apply -k` would apply.
    ///
    /// # Panics
    /// With what kustomize says against it.
    pub async fn kustomize(folder: &str) -> Self {
        let output = filter("kubectl", &["kustomize", folder], "").await;
        assert!(output.status.success(), "{folder}: {}", text(&output.stderr));
        Self::new(text(&output.stdout)).await
    }

    /// The same of an overlay that nobody has written down.
    pub async fn overlay(base: &str, components: &[&str]) -> Self {
        let overlay = folder();
        let path = overlay.path().canonicalize().expect("a temporary folder");
        // kustomize takes no absolute paths.
        let up = "../".repeat(path.components().count() - 1);
        let below = |name: &&str| format!("{up}{}/{name}", root().display()).replace("//", "/");
        let list = serde_json::json!({
            "kind": "Kustomization",
            "resources": [below(&base)],
            "components": components.iter().map(below).collect::<Vec<_>>(),
        });
        std::fs::write(path.join("kustomization.yaml"), list.to_string()).expect("an overlay");
        Self::kustomize(&path.display().to_string()).await
    }

    /// What the chart becomes with these values, or why it does not.
    pub async fn chart(values: &Value) -> Result<Self, String> {
        Ok(Self::new(rendered(values, false).await?).await)
    }

    /// What Helm says after an installation with these values.
    pub async fn notes(values: &Value) -> Result<String, String> {
        rendered(values, true).await
    }

    /// What an API server of these versions would have against them.
    pub async fn faults(&self, versions: &[&str]) -> Vec<String> {
        let arguments = [&["tests/kubernetes/validate.py"], versions].concat();
        let output = filter("python", &arguments, &self.text).await;
        let said = text(&output.stdout);
        assert!(!said.is_empty(), "{}", text(&output.stderr));
        if output.status.success() {
            return Vec::new();
        }
        said.lines().map(str::to_owned).collect()
    }

    /// The same manifests with one text in the place of another.
    ///
    /// # Panics
    /// When there is nothing to replace.
    pub async fn but(&self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "no {old}");
        Self::new(self.text.replace(old, new)).await
    }

    pub fn of<'m>(&'m self, kind: &str) -> impl Iterator<Item = &'m Value> + use<'m> {
        let kind = kind.to_owned();
        self.documents.iter().filter(move |document| document["kind"] == kind.as_str())
    }

    /// # Panics
    /// When there is none.
    pub fn one(&self, kind: &str, name: &str) -> &Value {
        let found = self.of(kind).find(|document| document["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The pods that the documents describe.
    pub fn pods(&self) -> impl Iterator<Item = &Value> {
        let places = ["/spec/template/spec", "/spec/jobTargetRef/template/spec"];
        self.documents
            .iter()
            .flat_map(move |document| places.map(|place| document.pointer(place)))
            .flatten()
    }
}

/// All containers of a pod, the restarted init containers first.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|list| pod[list].as_array()).flatten()
}
