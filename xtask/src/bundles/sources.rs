//! Copies of an application's sources to build in, and the change that is made in them.

use super::files::told;
use crate::setup::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// What stands in every source that is text and has contents of its own, and what replaces it.
const MARKER: (&str, &str) = ("SPILLWAY-BUNDLES-1", "SPILLWAY-BUNDLES-2");
/// What npm looks at to see whether the installed packages are those of the lock file: a new copy
/// would be newer, and all would be installed again.
const KEPT: [&str; 3] = ["node_modules", "package.json", "package-lock.json"];

/// Makes `work` a copy of the sources without anything that an earlier build left, except for the
/// installed packages. Both builds run in the same folder, because some tools hash paths too.
pub(super) fn fresh(own: &Path, work: &Path) -> Result<()> {
    fs::create_dir_all(work).map_err(|error| told(work, &error))?;
    for path in entries(work)? {
        if !KEPT.iter().any(|kept| path.ends_with(kept)) {
            remove(&path)?;
        }
    }
    let modules = work.join("node_modules");
    if modules.is_dir() {
        forget_caches(&modules)?;
    }
    copy(own, work)
}

/// Removes what tools remember of earlier builds between the packages: `.cache`, `.vite`.
fn forget_caches(modules: &Path) -> Result<()> {
    for path in entries(modules)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name.starts_with('.') && name != ".bin" {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Changes every source that has contents of its own a little.
pub(super) fn edit(folder: &Path) -> Result<()> {
    for path in entries(folder)? {
        if KEPT.iter().any(|kept| path.ends_with(kept)) {
            continue;
        }
        if path.is_dir() {
            edit(&path)?;
            continue;
        }
        let found = fs::read(&path).map_err(|error| told(&path, &error))?;
        let changed = match String::from_utf8(found) {
            Ok(text) => text.replace(MARKER.0, MARKER.1).into_bytes(),
            // Readers of pictures stop at their end mark; hashes don't.
            Err(binary) => [binary.as_bytes(), MARKER.1.as_bytes()].concat(),
        };
        fs::write(&path, changed).map_err(|error| told(&path, &error))?;
    }
    Ok(())
}

/// Copies what differs, but no packages, which somebody may have installed beside the sources.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(|error| told(to, &error))?;
    for own in entries(from)? {
        let there = to.join(own.file_name().unwrap_or_default());
        if own.is_dir() {
            if !own.ends_with("node_modules") {
                copy(&own, &there)?;
            }
            continue;
        }
        let wanted = fs::read(&own).map_err(|error| told(&own, &error))?;
        if !fs::read(&there).is_ok_and(|found| found == wanted) {
            fs::write(&there, wanted).map_err(|error| told(&there, &error))?;
        }
    }
    Ok(())
}

/// The paths of all that is in a folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).map_err(|error| told(folder, &error))?;
    list.map(|entry| Ok(entry.map_err(|error| told(folder, &error))?.path())).collect()
}

fn remove(path: &Path) -> Result<()> {
    let is_folder = path.is_dir() && !path.is_symlink();
    let done = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    done.map_err(|error| told(path, &error))
}
