//! Child processes that never outlive the demo.

use crate::setup::Result;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(4);

struct Process {
    name: String,
    child: Child,
}

/// Each runs in a process group of its own, so that its children go with it.
pub(super) struct Processes {
    running: Vec<Process>,
    logs: PathBuf,
}

impl Processes {
    pub(super) fn new(logs: &Path) -> Self {
        Self { running: Vec::new(), logs: logs.to_owned() }
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Starts a command; its output goes to `NAME.log`.
    pub(super) fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let path = self.log(name);
        let failed = |error: std::io::Error| format!("{name}: {error}");
        let log = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let child = command.spawn().map_err(|error| format!("{name}: {command:?}: {error}"))?;
        self.running.push(Process { name: name.to_owned(), child });
        Ok(())
    }

    /// Kills at once, as a node failure would.
    pub(super) fn kill(&mut self, name: &str) {
        self.running.retain_mut(|process| {
            let is_it = process.name == name;
            if is_it {
                signal("KILL", &process.child);
                let _ = process.child.wait();
            }
            !is_it
        });
    }

    /// Forgets the processes that have ended; their names and how.
    pub(super) fn take_ended(&mut self) -> Vec<(String, ExitStatus)> {
        let mut ended = Vec::new();
        self.running.retain_mut(|process| match process.child.try_wait() {
            Ok(Some(status)) => {
                ended.push((process.name.clone(), status));
                false
            }
            _ => true,
        });
        ended
    }

    /// # Errors
    /// Names the process that has ended, with the end of its log.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        for process in &mut self.running {
            if let Ok(Some(status)) = process.child.try_wait() {
                let path = self.logs.join(format!("{}.log", process.name));
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(format!(
                    "{} ended with {status}; see {}\n{tail}",
                    process.name,
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

/// To the whole group. By the `kill` command: a system call would need unsafe code.
fn signal(name: &str, child: &Child) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &self.running {
            signal("TERM", &process.child);
        }
        let until = Instant::now() + PATIENCE;
        for process in &mut self.running {
            while matches!(process.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            signal("KILL", &process.child);
            let _ = process.child.wait();
        }
    }
}
