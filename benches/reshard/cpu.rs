//! CPU time and memory of processes, as the kernel counts them.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// What the kernel counts CPU time in: `getconf CLK_TCK` is 100 on every Linux there is.
const TICKS_PER_SECOND: u64 = 100;
/// Where the parent stands in `/proc/PID/stat`, counted after the name.
const PARENT: usize = 1;
/// User and system time, and the same of children that have ended.
const OWN: [usize; 2] = [11, 12];
const ENDED: [usize; 2] = [13, 14];

/// The numbers behind the name in `/proc/PID/stat`.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = text.rsplit_once(')')?.1.split_whitespace();
    Some(fields.map(|field| field.parse().unwrap_or_default()).collect())
}

fn ticks(fields: &[u64], at: &[usize]) -> Duration {
    let sum: u64 = at.iter().filter_map(|at| fields.get(*at)).sum();
    Duration::from_millis(sum * 1000 / TICKS_PER_SECOND)
}

/// Of one process alone, also of one that has ended and was not waited for.
pub(crate) fn of(pid: u32) -> Duration {
    stat(pid).map_or(Duration::ZERO, |fields| ticks(&fields, &OWN))
}

/// Of this process' children that have ended, and theirs.
pub(crate) fn of_ended_children() -> Duration {
    stat(std::process::id()).map_or(Duration::ZERO, |fields| ticks(&fields, &ENDED))
}

/// Of these processes and all below them, those that have ended among them.
pub(crate) fn of_trees(roots: &[u32]) -> Duration {
    let mut all: HashMap<u32, Vec<u64>> = HashMap::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        all.extend(stat(pid).map(|fields| (pid, fields)));
    }
    let parent = |pid: u32| {
        let number = all.get(&pid).and_then(|fields| fields.get(PARENT));
        number.and_then(|number| u32::try_from(*number).ok()).filter(|parent| *parent > 0)
    };
    let is_ours = |pid: u32| {
        std::iter::successors(Some(pid), |pid| parent(*pid)).any(|pid| roots.contains(&pid))
    };
    let ours = all.iter().filter(|(pid, _)| is_ours(**pid));
    ours.map(|(_, fields)| ticks(fields, &OWN) + ticks(fields, &ENDED)).sum()
}

/// The most memory that a process has had, in KiB; none: it has ended.
pub(crate) fn peak_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
