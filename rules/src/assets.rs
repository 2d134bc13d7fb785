//! The header fields with which answers under the names of assets leave, whether they come from the
//! store or from the origin.
//!
//! Browsers may keep a file whose name contains its version for a year. They must not keep what
//! stands in for it for a moment: an error during a deploy, or a page of the application.

use crate::cors;
use crate::document::{Mode, Route, Versioned};
use crate::head::{Edit, ResponseHead, first, media_type};
use crate::versioned::is_versioned;

/// Content types by extension. An entry that ends with a slash or a dash covers all types with that
/// prefix; one that begins with a plus covers a structured syntax suffix (RFC 6839). Servers that
/// do not know an extension send `application/octet-stream`; browsers accept that for an image, a
/// font or a film, but not for a script or a style sheet.
const TYPES: [(&[&str], &[&str]); 9] = [
    (
        &["js", "mjs", "cjs"],
        &[
            "text/javascript",
            "application/javascript",
            "application/x-javascript",
            "text/ecmascript",
            "application/ecmascript",
        ],
    ),
    (&["css"], &["text/css"]),
    (&["json", "map", "webmanifest"], &["application/json", "text/json", "+json"]),
    (&["html", "htm", "xhtml"], &["text/html", "application/xhtml+xml"]),
    (
        &[
            "apng", "avif", "bmp", "cur", "gif", "heic", "ico", "jpeg", "jpg", "jxl", "png", "svg",
            "tif", "tiff", "webp",
        ],
        &["image/", OCTETS],
    ),
    (
        &["eot", "otf", "ttc", "ttf", "woff", "woff2"],
        &["font/", "application/font-", "application/x-font-", "application/vnd.ms-", OCTETS],
    ),
    (
        &["aac", "flac", "m4a", "m4v", "mid", "mkv", "mov", "mp3", "mp4", "ogg", "wav", "webm"],
        &["audio/", "video/", "application/ogg", OCTETS],
    ),
    (&["wasm"], &["application/wasm", OCTETS]),
    (&["pdf"], &["application/pdf", OCTETS]),
];
const OCTETS: &str = "application/octet-stream";
const PAGES: [&str; 2] = ["text/html", "application/xhtml+xml"];

/// The assets of a route.
#[derive(Debug, Clone, Copy)]
pub struct Assets {
    versioned: Versioned,
    are_for_all_origins: bool,
}

impl Assets {
    /// None for a route without `versioned`, or whose cache is not on.
    pub fn of(route: &Route) -> Option<Self> {
        let cache = route.cache.as_ref()?;
        let is_on = cache.mode == Mode::On && cache.versioned != Versioned::No;
        let are_for_all_origins = Self::are_for_all_origins(route);
        is_on.then_some(Self { versioned: cache.versioned, are_for_all_origins })
    }

    /// Whether pages of any origin may read the answers, so that one answer serves all of them.
    pub(crate) fn are_for_all_origins(route: &Route) -> bool {
        let is_versioned = route.cache.as_ref().is_some_and(|it| it.versioned != Versioned::No);
        is_versioned
            && route.cors.as_ref().is_some_and(|cors| cors.origins == ["*"] && !cors.credentials)
    }

    /// The changes to an answer to GET or HEAD that did not come from the store.
    pub fn edits(self, target: &str, response: &ResponseHead<'_>) -> Vec<Edit> {
        let path = path(target);
        let mut edits = Vec::new();
        if is_versioned(path, self.versioned) && !is_asset(path, response) {
            edits.push(Edit::Set("cache-control", NO_STORE.to_owned()));
        }
        if self.are_for_all_origins {
            edits.extend(cors::for_all_origins(response.fields));
        }
        edits
    }
}

/// The `Cache-Control` of an answer that stands in for an asset.
pub(crate) const NO_STORE: &str = "no-store";

/// Whether the answer can be the asset: all of it, a part of it, or a 304.
fn is_asset(path: &str, response: &ResponseHead<'_>) -> bool {
    match response.status {
        200 => fits(path, response),
        206 | 304 => true,
        _ => false,
    }
}

/// Whether the content type is one that the path's extension stands for. An unknown extension, or
/// none, accepts every type but a page's. An answer without a type is accepted.
pub(crate) fn fits(target: &str, response: &ResponseHead<'_>) -> bool {
    let Some(content_type) = first(response.fields, "content-type") else { return true };
    let found = media_type(&content_type).to_ascii_lowercase();
    let name = path(target).rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let extension = extension.to_ascii_lowercase();
    let known = TYPES.iter().find(|(extensions, _)| extensions.contains(&extension.as_str()));
    match known {
        Some((_, types)) => types.iter().any(|own| {
            found == *own
                || own.ends_with(['/', '-']) && found.starts_with(own)
                || own.starts_with('+') && found.ends_with(own)
        }),
        None => !PAGES.contains(&found.as_str()),
    }
}

fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, content_type: &str) -> (u16, Vec<(String, String)>) {
        (status, vec![("content-type".to_owned(), content_type.to_owned())])
    }

    fn fits_as(name: &str, content_type: &str) -> bool {
        let (status, fields) = response(200, content_type);
        fits(&format!("/assets/{name}"), &ResponseHead { status, fields: &fields })
    }

    #[test]
    fn a_type_fits_the_extension_that_stands_for_it_and_no_other() {
        for (name, content_type) in [
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.MJS", "Application/JavaScript"),
            ("a.css", "text/css"),
            ("a.js.map", "application/json"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.json", "application/geo+json"),
            ("a.csv", "application/vnd.ms-excel"),
            ("a.html", "text/html"),
            ("a.svg", "image/svg+xml"),
            ("a.woff2", "font/woff2"),
            ("a.woff", "application/font-woff"),
            ("a.ttf", "application/octet-stream"),
            ("a.wasm", "application/wasm"),
            ("a.bin", "application/octet-stream"),
            ("a", "text/plain"),
        ] {
            assert!(fits_as(name, content_type), "{name}: {content_type}");
        }
        for (name, content_type) in [
            ("a.js", "text/html"),
            ("a.js", "application/octet-stream"),
            ("a.css", "text/plain"),
            ("a.css", "application/json"),
            ("a.json", "text/html; charset=utf-8"),
            ("a.map", "text/plain"),
            ("a.png", "text/html"),
            ("a.woff2", "text/plain"),
            ("a.bin", "text/html"),
            ("a", "Text/HTML"),
        ] {
            assert!(!fits_as(name, content_type), "{name}: {content_type}");
        }
        assert!(fits("/a.js", &ResponseHead { status: 200, fields: &crate::NoFields }));
    }

    #[test]
    fn what_stands_in_the_place_of_an_asset_is_stored_by_nobody() {
        let assets = Assets { versioned: Versioned::ByName, are_for_all_origins: false };
        let edits = |target: &str, status, content_type: &str| {
            let (status, fields) = response(status, content_type);
            assets.edits(target, &ResponseHead { status, fields: &fields })
        };
        let refused = [Edit::Set("cache-control", "no-store".to_owned())];
        for status in [204, 301, 302, 400, 403, 404, 410, 416, 500, 503] {
            assert_eq!(edits("/a.v1.js?x=/a", status, "text/javascript"), refused, "{status}");
        }
        assert_eq!(edits("/a.v1.js", 200, "text/html"), refused);
        for status in [200, 206, 304] {
            assert_eq!(edits("/a.v1.js", status, "text/javascript"), [], "{status}");
        }
        assert_eq!(edits("/a.v1.js", 304, "text/html"), [], "a 304 has no content");
        assert_eq!(edits("/a.js", 404, "text/html"), [], "no version in the name");
    }
}
