//! The memory limit of this process.

use std::fs;
use std::path::Path;

/// Where the kernel mounts the cgroups.
const MOUNTED: &str = "/sys/fs/cgroup";
/// The file that names the process's own cgroups.
const OWN: &str = "/proc/self/cgroup";

/// The lowest memory limit of this process's cgroup and of its ancestors, in bytes; `None` where
/// there is none.
pub fn memory_max() -> Option<u64> {
    limit(Path::new(MOUNTED), &fs::read_to_string(OWN).ok()?)
}

fn limit(mounted: &Path, own: &str) -> Option<u64> {
    own.lines().filter_map(|line| limit_of(mounted, line)).min()
}

/// The limit for a line `HIERARCHY:CONTROLLERS:PATH` (cgroups(7)). A container sees its own cgroup
/// as the root, whatever the path says.
fn limit_of(mounted: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, file) = if controllers.is_empty() {
        (mounted.to_owned(), "memory.max")
    } else if controllers.split(',').any(|own| own == "memory") {
        (mounted.join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    let group = root.join(path.trim_start_matches('/'));
    let above = group.ancestors().take_while(|folder| folder.starts_with(&root));
    // "max" is not a number, which means no limit.
    let limits = above.filter_map(|folder| fs::read_to_string(folder.join(file)).ok());
    limits.filter_map(|limit| limit.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts_wherever_it_is_set() {
        let root = std::env::temp_dir().join(format!("spillway-cgroup-{}", std::process::id()));
        let write = |file: &str, limit: &str| {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, limit).expect("written");
        };
        write("pod/memory.max", "268435456\n");
        write("pod/own/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/a/memory.limit_in_bytes", "1048576\n");
        assert_eq!(limit(&root, "0::/pod/own\n"), Some(268_435_456), "of the pod");
        assert_eq!(limit(&root, "0::/\n"), None);
        assert_eq!(limit(&root, "5:cpu,memory:/a/b\n4:pids:/a\n0::/\n"), Some(1_048_576));
        assert_eq!(limit(&root, "5:memory:/elsewhere\n"), Some(9_223_372_036_854_771_712));
        assert_eq!(limit(&root, "nonsense"), None);
        fs::remove_dir_all(&root).expect("removed");
    }
}
