//! Who may import whom: folders and files look down only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files of the sidecar's crate, lowest first. A line's members may not see each other; each
/// may import what stands in a line before its own.
const LAYERS: [&[&str]; 11] = [
    &["cgroup", "clock", "logging", "memory", "room", "secrets"],
    &["drain"],
    &["telemetry"],
    &["message"],
    &["soundness"],
    &["upstream"],
    &["request"],
    &["jobs"],
    &["proxy"],
    &["operate"],
    &["command"],
];
