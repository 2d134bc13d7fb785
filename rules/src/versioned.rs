//! Is a version or content hash part of the file's name?
//!
//! Only then may an answer be called immutable: a wrong guess pins old bytes in browsers for a
//! year. So never a guess; a name that is not sure is revalidated instead.

/// Hex digits a content hash has at least (webpack, Vite and Rails write 8 and more).
const HASH_DIGITS_MIN: usize = 8;
/// Digits a `.vN.` version has at most; more is a date or an id.
const VERSION_DIGITS_MAX: usize = 6;

/// Whether the path's last segment carries a version: `main.v123.css`, `main.3f2a9c1b.css`,
/// `main-3f2a9c1b.css`. Not `user-settings.js`, not `photo-20240101.jpg` (digits alone are a
/// date), not a query parameter.
pub fn is_versioned(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let mut parts = file.split('.');
    let Some(stem) = parts.next() else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((_extension, middle)) = parts.split_last() else { return false };
    if stem.is_empty() {
        return false;
    }
    let hashed_stem =
        stem.rsplit_once('-').is_some_and(|(name, hash)| !name.is_empty() && is_hash(hash));
    hashed_stem || middle.iter().any(|part| is_version(part) || is_hash_part(part))
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| {
        (1..=VERSION_DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// `main.bundle-3f2a9c1b.js` has its hash behind a dash of a middle part.
fn is_hash_part(part: &str) -> bool {
    is_hash(part) || part.rsplit_once('-').is_some_and(|(_, hash)| is_hash(hash))
}

fn is_hash(part: &str) -> bool {
    part.len() >= HASH_DIGITS_MIN
        && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_or_hash_in_the_file_name_counts() {
        for path in [
            "/assets/main.v123.css",
            "/assets/main.3f2a9c1b.css",
            "/assets/main-3f2a9c1b.css",
            "/main.3f2a9c1b.css.map",
            "/a/chunk.vendor-0a1b2c3d4e.js",
        ] {
            assert!(is_versioned(path), "{path}");
        }
    }

    #[test]
    fn anything_less_sure_does_not() {
        for path in [
            "/assets/user-settings.js",
            "/assets/main.css",
            "/assets/photo-20240101.jpg",
            "/assets/main-facade.css",
            "/3f2a9c1b/main.css",
            "/assets/3f2a9c1b",
            "/assets/jquery-3.7.1.js",
            "/assets/.3f2a9c1b.css",
            "/assets/main.v.css",
            "/",
            "",
        ] {
            assert!(!is_versioned(path), "{path}");
        }
    }
}
