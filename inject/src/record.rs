//! The annotation that says what an injection did: enough to undo it exactly.

use std::fmt;

/// Parts of the pod that were not there before, by their words in the annotation.
pub const ADDED: [&str; 7] = [
    "prestop",
    "lifecycle",
    "init-containers",
    "image-pull-secrets",
    "volumes",
    "annotations",
    "metadata",
];

/// `container=web port=http prestop lifecycle`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The application's container.
    pub container: String,
    /// The name that its port had.
    pub port: Option<String>,
    /// Names that were added to those of the pod.
    pub pull_secrets: Vec<String>,
    pub added: Vec<&'static str>,
}

impl Record {
    pub fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for word in text.split(' ') {
            match word.split_once('=') {
                Some(("container", name)) => record.container = name.to_owned(),
                Some(("port", name)) => record.port = Some(name.to_owned()),
                Some(("pull-secrets", names)) => {
                    record.pull_secrets = names.split(',').map(str::to_owned).collect();
                }
                _ => record.added.extend(ADDED.into_iter().filter(|known| *known == word)),
            }
        }
        record
    }

    pub fn has_added(&self, word: &str) -> bool {
        self.added.contains(&word)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container={}", self.container)?;
        if let Some(port) = &self.port {
            write!(f, " port={port}")?;
        }
        if !self.pull_secrets.is_empty() {
            write!(f, " pull-secrets={}", self.pull_secrets.join(","))?;
        }
        self.added.iter().try_for_each(|word| write!(f, " {word}"))
    }
}
