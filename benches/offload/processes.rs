//! Programs under test, and what they cost.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// What the kernel counts CPU time in: `getconf CLK_TCK` is 100 on every Linux there is.
const TICKS_PER_SECOND: u64 = 100;
/// Where user and system time stand in `/proc/PID/stat`, counted after the name.
const TIMES: (usize, usize) = (11, 12);

pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts the program and waits for a line on its output or errors; what stands in that line.
    pub(crate) async fn start(mut command: Command, sign: &str) -> (Self, String) {
        let what = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let (found, mut lines) = tokio::sync::mpsc::unbounded_channel();
        follow(child.stdout.take().expect("a pipe"), found.clone());
        follow(child.stderr.take().expect("a pipe"), found);
        let mut said = String::new();
        while let Some(line) = lines.recv().await {
            if line.contains(sign) {
                // The rest is read too, or its pipe would fill.
                tokio::spawn(async move { while lines.recv().await.is_some() {} });
                return (Self { child }, line);
            }
            said.push_str(&line);
            said.push('\n');
        }
        panic!("{what} ended: {said}");
    }

    /// CPU time of the program and all its children so far.
    pub(crate) fn cpu(&self) -> Duration {
        let root = self.child.id().expect("a running program");
        let mut parents: HashMap<u32, (u32, u64)> = HashMap::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            parents.extend(stat(id).map(|found| (id, found)));
        }
        let is_ours = |mut id: u32| loop {
            match parents.get(&id) {
                _ if id == root => break true,
                Some((parent, _)) if *parent > 0 => id = *parent,
                _ => break false,
            }
        };
        let ticks: u64 =
            parents.iter().filter(|(id, _)| is_ours(**id)).map(|(_, (_, ticks))| ticks).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The whole group: gunicorn and celery have children. The `--` is vital: procps' kill takes
        // a bare `-1234` for the option `-1`, and then kills everything there is.
        if let Some(id) = self.child.id() {
            let group = format!("-{id}");
            let _ = std::process::Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        }
    }
}

/// Parent and ticks.
fn stat(id: u32) -> Option<(u32, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let parent = u32::try_from(number(1)?).ok()?;
    Some((parent, number(TIMES.0)? + number(TIMES.1)?))
}

fn follow(
    output: impl AsyncRead + Unpin + Send + 'static,
    found: tokio::sync::mpsc::UnboundedSender<String>,
) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = found.send(line);
        }
    });
}
