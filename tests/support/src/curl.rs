//! curl, as a client that nobody here wrote.

use crate::system;
use tokio::process::Command;

/// What it prints.
///
/// # Panics
/// When it is not installed.
pub async fn curl(arguments: &[&str]) -> String {
    let output = Command::new(system("curl", "SPILLWAY_CURL"))
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output()
        .await
        .expect("curl starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}
