//! What went wrong with a file, with its name.

use std::path::Path;

pub(super) fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
