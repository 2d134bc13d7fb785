//! Files of manifests: which documents hold pods, and the text after a change. What is not changed
//! keeps its text to the letter.

use crate::options::Options;
use crate::pod::{self, Answer, Outcome};
use crate::refusal::{Caution, Warning};
use crate::yaml::{self, Fault, Node};
use crate::{names, target};
use serde_json::Value;

/// Where each kind keeps its pod.
const KINDS: [(&str, &str, &str); 9] = [
    ("v1", "Pod", ""),
    ("v1", "ReplicationController", "/spec/template"),
    ("v1", "PodTemplate", "/template"),
    ("apps/v1", "Deployment", "/spec/template"),
    ("apps/v1", "StatefulSet", "/spec/template"),
    ("apps/v1", "DaemonSet", "/spec/template"),
    ("apps/v1", "ReplicaSet", "/spec/template"),
    ("batch/v1", "Job", "/spec/template"),
    ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
];

/// One document of a file.
#[derive(Debug, Clone)]
pub struct Document<'t> {
    /// With its `---` and its comments; all texts together are the file.
    pub text: &'t str,
    node: Option<Node>,
    pub value: Value,
    is_json: bool,
}

/// Splits and reads a file.
///
/// # Errors
/// Every document that is not YAML, with the line of the file.
pub fn read(text: &str) -> Result<Vec<Document<'_>>, Vec<Fault>> {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    let mut line = 0;
    for part in split(text) {
        let (mut last, mut start) = (0, 0);
        for (node, end) in yaml::json_documents(part) {
            let text = part.get(start..end).unwrap_or_default();
            documents.push(Document::new(text, Some(node), true));
            (last, start) = (start, end);
        }
        let rest = part.get(start..).unwrap_or_default();
        match yaml::parse(rest) {
            // White space and comments after the last document are its own.
            Ok(None) if start > 0 => {
                if let Some(document) = documents.last_mut() {
                    document.text = part.get(last..).unwrap_or_default();
                }
            }
            Ok(node) => documents.push(Document::new(rest, node, false)),
            Err(fault) => {
                let before = part.get(..start).unwrap_or_default().matches('\n').count();
                faults.push(Fault { line: line + before + fault.line, ..fault });
            }
        }
        line += part.matches('\n').count();
    }
    if faults.is_empty() { Ok(documents) } else { Err(faults) }
}

/// A document begins at a line `---`, as for kubectl.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let is_mark = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim_start() != rest || rest.is_empty());
        if is_mark && at > start {
            parts.extend(text.get(start..at));
            start = at;
        }
        at += line.len();
    }
    parts.extend(text.get(start..));
    parts
}

/// A pod inside a document, and what was decided about it.
#[derive(Debug, Clone)]
pub struct Report {
    /// `Deployment market`
    pub what: String,
    pub answer: Answer,
}

/// One document is written as it is only where kubectl reads it beside others: after YAML or a mark it
/// reads JSON as YAML, or not at all.
pub fn beside_others(documents: &[Document<'_>], texts: Vec<String>) -> Vec<String> {
    let is_alone = documents.len() < 2;
    let beside = |(document, text): (&Document<'_>, String)| {
        let is_left = document.is_json && !is_alone && text == document.text;
        if is_left { document.rewritten(&document.value) } else { text }
    };
    documents.iter().zip(texts).map(beside).collect()
}

impl<'t> Document<'t> {
    fn new(text: &'t str, node: Option<Node>, is_json: bool) -> Self {
        let value = node.as_ref().map_or(Value::Null, Node::to_json);
        Self { text, node, value, is_json }
    }
}

impl Document<'_> {
    /// Puts the sidecar into every pod; the text is the document's own where none was changed.
    pub fn inject(&self, options: &Options) -> (String, Vec<Report>) {
        let mut reports = Vec::new();
        let mut value = self.value.clone();
        let mut is_changed = false;
        for_each_pod(&mut value, &mut |what, workload, pointer| {
            let Some(pod) = workload.pointer_mut(pointer) else { return };
            let mut answer = pod::update(pod, options);
            if let Outcome::Injected { pod: injected, .. } = &answer.outcome {
                pod.clone_from(injected);
                is_changed = true;
            }
            if !pointer.is_empty() {
                answer.warnings.extend(misplaced(workload));
            }
            reports.push(Report { what, answer });
        });
        (if is_changed { self.rewritten(&value) } else { self.text.to_owned() }, reports)
    }

    /// Takes the sidecar out of every pod, and names those that had one.
    pub fn uninject(&self) -> (String, Vec<String>) {
        let mut changed = Vec::new();
        let mut value = self.value.clone();
        for_each_pod(&mut value, &mut |what, workload, pointer| {
            let Some(pod) = workload.pointer_mut(pointer) else { return };
            if let Some(original) = pod::uninject(pod) {
                *pod = original;
                changed.push(what);
            }
        });
        (if changed.is_empty() { self.text.to_owned() } else { self.rewritten(&value) }, changed)
    }

    /// The marks and comments above the document stay.
    fn rewritten(&self, value: &Value) -> String {
        let is_kept = |line: &&str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "---" || line.starts_with("--- #")
        };
        let mut head: String = self.text.split_inclusive('\n').take_while(is_kept).collect();
        if self.is_json {
            head = head.trim_start_matches(['\r', '\n']).to_owned();
        }
        // The mark may have had content beside it.
        if self.text.starts_with("---") && head.is_empty() {
            head.push_str("---\n");
        }
        head + &yaml::write(value, self.node.as_ref())
    }
}

/// Calls with the workload and where its pod is; goes into lists.
pub fn for_each_pod(value: &mut Value, visit: &mut impl FnMut(String, &mut Value, &'static str)) {
    let kind = target::text(value, "kind").to_owned();
    if kind.ends_with("List") {
        let items = value.get_mut("items").and_then(Value::as_array_mut);
        items.into_iter().flatten().for_each(|item| for_each_pod(item, visit));
        return;
    }
    let version = target::text(value, "apiVersion");
    let known = KINDS.iter().find(|(own, name, _)| *own == version && *name == kind);
    let Some((_, _, pointer)) = known else { return };
    let name = value.get("metadata").map_or("", |metadata| match target::text(metadata, "name") {
        "" => target::text(metadata, "generateName"),
        name => name,
    });
    let what = format!("{kind} {name}");
    visit(what, value, pointer);
}

/// Annotations that stand on the workload, where nobody reads them.
fn misplaced(workload: &Value) -> Vec<Warning> {
    let mut found = Vec::new();
    for of in ["annotations", "labels"] {
        let all = workload.get("metadata").and_then(|metadata| metadata.get(of)?.as_object());
        for (key, _) in all.into_iter().flatten() {
            if key.starts_with(names::PREFIX) {
                let what = format!(
                    "{key} stands on the workload, where it is not read: put it on the pod template"
                );
                found.push(Warning::new(Caution::Misplaced, what));
            }
        }
    }
    found
}
