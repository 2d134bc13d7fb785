//! The keys that stores accept: those that mean the same in a URL, in a log and in S3.

use super::StoreError;

/// The largest key in bytes. S3 takes 1,024: a prefix as long as this, the slash between them, and this.
const KEY_BYTES_MAX: usize = 511;

/// Whether this is a key: `/`-separated segments of `[A-Za-z0-9._-]`, none of them `.` or `..`, which S3
/// clients resolve.
pub(super) fn check(key: &str) -> Result<(), StoreError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let segment =
        |text: &str| !text.is_empty() && text != "." && text != ".." && text.chars().all(legal);
    if key.len() <= KEY_BYTES_MAX && key.split('/').all(segment) {
        return Ok(());
    }
    Err(StoreError { name: "key-illegal", detail: format!("{key:?}") })
}

/// Whether this is a prefix: a key, or the beginning of keys that ends with a slash.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    check(prefix.strip_suffix('/').unwrap_or(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for key in ["a", "results/v1.x_y-Z", "a/b/c", "...", "-"] {
            check(key).expect(key);
        }
        let long = "a".repeat(KEY_BYTES_MAX + 1);
        for key in ["", "/", "a/", "/a", "a//b", ".", "a/../b", "ä", "a b", "a%2fb", "a\\b", &long]
        {
            assert_eq!(check(key).expect_err(key).name, "key-illegal");
        }
    }
}
