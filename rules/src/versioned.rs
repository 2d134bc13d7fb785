//! Whether a file's name contains a version or content hash.
//!
//! Only then may an answer be called immutable: a wrong guess pins old bytes in browsers for a
//! year. In doubt the answer is revalidated instead.

use crate::document::Versioned;

/// The fewest hex digits of a content hash (webpack and Rails write 8 and more).
const HASH_DIGITS_MIN: usize = 8;
/// The most digits of a `.vN.` version; a longer number is a date or an id.
const VERSION_DIGITS_MAX: usize = 6;
/// The fewest characters of a folder that a build names: a UUID, a hash, or the 21 characters of
/// Next.js' build id.
const BUILD_BYTES_MIN: usize = 16;
/// The fewest letters of each word in names like `remoteEntry`: shorter words occur in hashes.
const WORD_BYTES_MIN: usize = 4;
/// In names like `registerSW`: the fewest letters before the abbreviation, and the most of the
/// abbreviation.
const ABBREVIATED_BYTES: (usize, usize) = (6, 3);
/// The most digits of a size or a year.
const NUMBER_DIGITS_MAX: usize = 4;
/// In names like `logo2`: the most letters of the word, and the most digits of the number.
const NUMBERED_BYTES_MAX: (usize, usize) = (8, 2);
/// The length of an esbuild hash. It consists of A to Z and 2 to 7, and may be letters only.
const BASE32_BYTES: usize = 8;

/// Whether a file's contents can't change under this path, according to the rule.
pub fn is_versioned(path: &str, rule: Versioned) -> bool {
    match rule {
        Versioned::No => false,
        Versioned::ByName => is_named(path),
        Versioned::All => is_named(path) || is_of_a_build(path),
    }
}

/// Whether the path's last segment contains a version: `main.v123.css`, `main.3f2a9c1b.css`,
/// `main-3f2a9c1b.css`. Not `user-settings.js`, not `photo-20240101.jpg` (digits alone are a date),
/// and not a query parameter.
fn is_named(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let mut parts = file.split('.');
    let Some(stem) = parts.next() else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((extension, middle)) = parts.split_last() else { return false };
    if stem.is_empty() {
        return false;
    }
    let hashed_stem =
        stem.rsplit_once('-').is_some_and(|(name, hash)| !name.is_empty() && is_hash(hash));
    // Django's `LICENSE.2c54f4e1ca1c`, a file without an extension.
    hashed_stem
        || is_hash(extension)
        || middle.iter().any(|part| is_version(part) || is_hash_part(part))
}

/// Whether a file in a folder of build output is immutable. Build tools name files there by their
/// contents, in any characters. Files whose names are plain words (`latest.json`, `remoteEntry.js`)
/// are not immutable, unless a folder above is named by the build.
fn is_of_a_build(path: &str) -> bool {
    let Some((folders, file)) = path.rsplit_once('/') else { return false };
    let Some((stem, _extension)) = file.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())
    else {
        return false;
    };
    !is_of_words(stem)
        || folders.split('/').any(|folder| folder.len() >= BUILD_BYTES_MIN && !is_of_words(folder))
}

fn is_of_words(name: &str) -> bool {
    let pieces = name.split(['.', '-', '_', '~']);
    pieces.filter(|piece| !piece.is_empty()).all(is_word)
}

/// Whether a piece is a number or a size: `192`, `2024`, `32x32`.
fn is_number(piece: &str) -> bool {
    piece.split('x').all(|digits| {
        let is_short = (1..=NUMBER_DIGITS_MAX).contains(&digits.len());
        is_short && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether a piece is a word with a number: `logo2`, `heading1`.
fn is_numbered(letters: &str, digits: usize) -> bool {
    let (letters_max, digits_max) = NUMBERED_BYTES_MAX;
    (1..=letters_max).contains(&letters.len())
        && digits <= digits_max
        && letters.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Whether a piece is a word: `latest`, `README`, `remoteEntry`, `registerSW`. About one in 100
/// hashes of mixed letters looks like a word, and is revalidated.
fn is_word(piece: &str) -> bool {
    let letters = piece.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if letters.len() < piece.len() {
        return is_number(piece) || is_numbered(letters, piece.len() - letters.len());
    }
    if !piece.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return false;
    }
    if piece.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return true;
    }
    if piece.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return piece.len() >= WORD_BYTES_MIN && piece.len() != BASE32_BYTES;
    }
    let lower = piece.trim_end_matches(|letter: char| letter.is_ascii_uppercase());
    let abbreviated = piece.len() - lower.len();
    let (before, most) = ABBREVIATED_BYTES;
    if abbreviated > 0 {
        let is_one = lower.bytes().all(|byte| byte.is_ascii_lowercase());
        return is_one && lower.len() >= before && abbreviated <= most;
    }
    let mut words = vec![0];
    for (at, byte) in piece.bytes().enumerate() {
        if byte.is_ascii_uppercase() && at > 0 {
            words.push(0);
        }
        if let Some(word) = words.last_mut() {
            *word += 1;
        }
    }
    words.into_iter().all(|bytes| bytes >= WORD_BYTES_MIN)
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| {
        (1..=VERSION_DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// In `main.bundle-3f2a9c1b.js` the hash follows a dash in a middle part.
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
            "/static/admin/img/LICENSE.2c54f4e1ca1c",
        ] {
            assert!(is_versioned(path, Versioned::ByName), "{path}");
            assert!(is_versioned(path, Versioned::All), "{path}");
            assert!(!is_versioned(path, Versioned::No), "{path}");
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
            assert!(!is_versioned(path, Versioned::ByName), "{path}");
        }
    }

    #[test]
    fn where_all_is_hashed_only_names_of_words_are_not() {
        let is = |path: &str| is_versioned(path, Versioned::All);
        for hashed in [
            "/assets/index-BqL7urjy.js",
            "/assets/index-B-L7_rjy.js",
            "/_next/static/chunks/310vm2bl3xxpt.js",
            "/_nuxt/CwLeXwXz.js",
            "/main-KSZ3V6MD.js",
            "/main-QXJVJVQA.js",
            "/_next/static/kbMbPBLXZuPBYDOqEWTRq/_buildManifest.js",
            "/_nuxt/builds/meta/0b6b1b0e-6d67-4d42-9b52-8e1f3f6a7e51.json",
        ] {
            assert!(is(hashed), "{hashed}");
        }
        for plain in [
            "/_nuxt/builds/latest.json",
            "/_app/version.json",
            "/_app/env.js",
            "/assets/remoteEntry.js",
            "/assets/registerSW.js",
            "/assets/service-worker.js",
            "/assets/README.md",
            "/assets/icon-192.png",
            "/assets/favicon-32x32.png",
            "/assets/logo2.svg",
            "/assets/product-images-2024/chair.jpg",
            "/_next/static/development/_buildManifest.js",
            "/assets/3f2a9c1b",
            "/assets/.3f2a9c1b",
            "/assets/",
            "",
        ] {
            assert!(!is(plain), "{plain}");
        }
    }
}
