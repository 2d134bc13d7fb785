//! The manifests of `golden/inject`.

use inject::manifest::{self, for_each_pod};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use support::{Ended, run};

pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inject")
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// One manifest as it is before, and the flags that its first line asks for.
pub struct Case {
    pub name: String,
    pub file: PathBuf,
    pub text: String,
    pub flags: Vec<String>,
}

pub fn cases() -> Vec<Case> {
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
    pub async fn injected(&self) -> Ended {
        let file = self.file.display().to_string();
        let mut arguments = vec!["inject", file.as_str()];
        arguments.extend(self.flags.iter().map(String::as_str));
        run(&arguments).await
    }

    pub fn golden_file(&self) -> PathBuf {
        golden().join("out").join(format!("{}.yaml", self.name))
    }
}

pub fn values(text: &str) -> Vec<Value> {
    let documents = manifest::read(text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    documents.into_iter().map(|document| document.value).filter(|value| !value.is_null()).collect()
}

/// Every pod, as the API server would see it.
pub fn pods(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for mut value in values(text) {
        for_each_pod(&mut value, &mut |_, workload, pointer| {
            found.push(workload.pointer(pointer).expect("a pod").clone());
        });
    }
    found
}

/// A generated file of the repository, which must be what was generated now.
pub fn checked_in(name: &str, now: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, now).expect("the file");
    }
    assert!(read(&file) == now, "{name} is old: UPDATE_GOLDEN=1 writes it anew");
    file
}

pub fn was_injected(text: &str) -> bool {
    text.contains(": injected\n")
}
