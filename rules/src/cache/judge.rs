//! Decides whether an answer may be stored in a shared cache, and for how long (RFC 9111 sections 3
//! and 4).

use super::control::CacheControl;
use super::freshness::{self, Begin, Entry, Source};
use super::meant::url_tag;
use super::plan::Plan;
use super::reason::NotStored;
use super::tier::Tier;
use super::token;
use super::vary;
use crate::assets::{NO_STORE, fits};
use crate::cors;
use crate::document::{Lifetime, Override, Versioned};
use crate::head::{Edit, Head, ResponseHead, first, has, joined};
use crate::time::{Millis, UnixMillis};

/// The longest lifetime of a 404 or 410 under a rule: a page that appears must be seen soon.
const NEGATIVE_MAX: Millis = Millis(10_000);

/// Extensions of static files: Cloudflare's list without the kinds that are data.
#[rustfmt::skip]
const STATIC: [&str; 32] = [
    "avi", "avif", "bmp", "class", "css", "cur", "eot", "flac", "gif", "ico", "jar", "jpeg", "jpg",
    "js", "mid", "mjs", "mkv", "mp3", "mp4", "ogg", "otf", "pdf", "png", "svg", "swf", "tif", "tiff",
    "ttf", "wasm", "webm", "webp", "woff2",
];

/// Tags of one answer at most; Cloudflare accepts about 1,000 of 16 characters.
const TAGS_MAX: usize = 1_000;
/// Bytes of one tag at most, as Fastly limits its keys.
const TAG_BYTES_MAX: usize = 1_024;

/// An answer that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What is remembered of the answer.
    pub entry: Entry,
    /// Where `entry.windows.fresh` comes from.
    pub source: Source,
    /// Fields that must not be stored: `Set-Cookie` under `strip_cookies`, and those that
    /// `private="…"` or `no-cache="…"` name.
    pub remove: Vec<String>,
    /// Further changes to its fields before they are stored.
    pub edits: Vec<Edit>,
    /// The `Cache-Control` that clients are sent; the answer's own where none.
    pub client_cache_control: Option<String>,
    /// The tags by which the answer can be purged: the route's, and those in `Cache-Tag` and
    /// `Surrogate-Key`.
    pub tags: Vec<String>,
}

/// Decides whether an answer to a request with this plan may be stored.
///
/// # Errors
/// The reason why the answer must not or can't be stored.
pub fn judge(
    plan: &Plan<'_>,
    request: &Head<'_>,
    response: &ResponseHead<'_>,
    now: UnixMillis,
) -> Result<Judgement, NotStored> {
    if plan.leads_back(request, response) {
        // The redirect may depend on a field that this client did not send.
        return Err(NotStored::LeadsBack);
    }
    let (control, is_targeted) = CacheControl::read_targeted(response.fields, &plan.rule.targeted);
    let remove = allowed(plan, &control, response)?;
    let vary = vary::selected(plan, request, response)?;
    let (mut lifetime, mut source) = lifetime(plan, &control, is_targeted, response, now)?;
    if plan.is_versioned && response.status != 200 && source != Source::Negative {
        // The answer stands in for an asset, which may appear at the next moment.
        lifetime = lifetime.min(NEGATIVE_MAX);
    }
    let mut windows = freshness::windows(&plan.rule, Lifetime::Fixed(lifetime), None, &control);
    if plan.lifetime == Lifetime::FromOrigin {
        let origin = Some(lifetime);
        windows = freshness::windows(&plan.rule, Lifetime::FromOrigin, origin, &control);
    }
    if control.no_cache && !plan.rule.overrides.contains(&Override::NoCache) {
        windows = freshness::Windows::fresh_only(Millis::ZERO);
        source = Source::NoCache;
    }
    if freshness::is_failure(response.status) {
        // A failure that is stored (`negative`) shields the origin for its lifetime; it never stands in for an
        // answer, and not for the next failure.
        windows = freshness::Windows::fresh_only(windows.fresh);
    }
    if plan.is_sealed {
        windows = token::cut(windows);
    }
    let begin =
        if source.is_rule() { Begin::Receipt } else { Begin::Date { lifetime: windows.fresh } };
    let entry = Entry {
        received: now,
        age_at_receipt: freshness::age_at_receipt(response.fields, begin, now),
        windows,
        etag: first(response.fields, "etag"),
        last_modified: first(response.fields, "last-modified"),
        vary,
        // Only the bearer's own requests find a sealed answer.
        is_shared: is_shared(&control) || plan.is_sealed,
        language: language(response),
    };
    let has_lifetime = entry.windows.fresh > entry.age_at_receipt
        || entry.windows.stale_while_revalidate.max(entry.windows.stale_if_error) > Millis::ZERO;
    // Where the rule gives a lifetime, the next answer may be storable: followers need not stop
    // waiting.
    if !has_lifetime && !entry.has_validator() && !source.is_rule() {
        return Err(NotStored::NoLifetime);
    }
    let mut edits = match plan.is_for_all_origins {
        true => cors::for_all_origins(response.fields),
        false => Vec::new(),
    };
    if !has(response.fields, "date") {
        // The origin has no clock (RFC 9110 section 6.6.1). The first client gets the same `Date`
        // as later ones.
        edits.push(Edit::Set("date", super::date::format(now)));
    }
    let client_cache_control = client_cache_control(plan, response);
    let tags = tags(plan, response)?;
    Ok(Judgement { entry, source, remove, edits, client_cache_control, tags })
}

/// Whether the answer may be given to other clients at all, and which of its fields must not be
/// stored.
fn allowed(
    plan: &Plan<'_>,
    control: &CacheControl,
    response: &ResponseHead<'_>,
) -> Result<Vec<String>, NotStored> {
    let overrides = |which: Override| plan.rule.overrides.contains(&which);
    // A cache that understands the status ignores `no-store` (RFC 9111 section 5.2.2.3).
    if control.must_understand && !is_understood(response.status) {
        return Err(NotStored::Status);
    }
    if control.no_store && !control.must_understand && !overrides(Override::NoStore) {
        return Err(NotStored::NoStore);
    }
    if control.private && !overrides(Override::Private) {
        return Err(NotStored::Private);
    }
    let mut remove = control.fields.clone();
    if has(response.fields, "set-cookie") && !overrides(Override::SetCookie) {
        let is_named = control.fields.iter().any(|name| name == "set-cookie");
        if !is_named && !strips_cookies(plan, response) {
            return Err(NotStored::SetCookie);
        }
        remove.push("set-cookie".to_owned());
    }
    if plan.has_authorization && !plan.is_sealed && !is_shared(control) {
        return Err(NotStored::Authorization);
    }
    let content_type = first(response.fields, "content-type").unwrap_or_default();
    if content_type.starts_with("text/event-stream") {
        return Err(NotStored::EventStream);
    }
    let is_other = plan.is_versioned && !fits(plan.target(), response);
    if response.status == 200 && (is_other || is_mismatch(plan.target(), &content_type)) {
        return Err(NotStored::ContentTypeMismatch);
    }
    Ok(remove)
}

/// Whether the origin allows sharing answers to requests with `Authorization` (RFC 9111 section
/// 3.5). A rule's lifetime never does.
fn is_shared(control: &CacheControl) -> bool {
    control.public || control.s_maxage.is_some() || control.must_revalidate
}

/// Whether cookies are stripped from the answer. Browsers send the session cookie with every asset,
/// and frameworks renew it in the answer. Of a versioned name nothing but the asset itself is
/// shared.
fn strips_cookies(plan: &Plan<'_>, response: &ResponseHead<'_>) -> bool {
    match plan.is_versioned {
        true => response.status == 200 && fits(plan.target(), response),
        false => plan.rule.strip_cookies,
    }
}

fn language(response: &ResponseHead<'_>) -> Option<String> {
    let language = joined(response.fields, "content-language")?.to_ascii_lowercase();
    (!language.is_empty() && !language.contains(',')).then_some(language)
}

/// The tags of an answer. `Cache-Tag` separates them by commas (Cloudflare, Akamai),
/// `Surrogate-Key` by spaces (Fastly, Varnish).
fn tags(plan: &Plan<'_>, response: &ResponseHead<'_>) -> Result<Vec<String>, NotStored> {
    let mut tags = plan.tags.clone();
    for (field, separator) in [("cache-tag", ','), ("surrogate-key", ' ')] {
        let Some(list) = joined(response.fields, field) else { continue };
        // Field lines are joined by commas, which no key contains.
        let split = |letter: char| letter == separator || letter == ',';
        let named = list.split(split).map(str::trim).filter(|tag| !tag.is_empty());
        tags.extend(named.map(str::to_owned));
    }
    if plan.tier == Tier::Edge {
        tags.push(url_tag(&plan.url));
    }
    tags.sort();
    tags.dedup();
    let is_good = tags.len() <= TAGS_MAX && tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX);
    if is_good { Ok(tags) } else { Err(NotStored::TooManyTags) }
}

/// The lifetime in milliseconds, and where it comes from.
fn lifetime(
    plan: &Plan<'_>,
    control: &CacheControl,
    is_targeted: bool,
    response: &ResponseHead<'_>,
    now: UnixMillis,
) -> Result<(Millis, Source), NotStored> {
    let explicit =
        control.max_age.or(control.s_maxage).is_some() || has(response.fields, "expires");
    if let Some(negative) = plan.rule.negative.get(&response.status) {
        return Ok((*negative, Source::Negative));
    }
    match (plan.lifetime, response.status) {
        (_, 206 | 304 | 100..=199) => Err(NotStored::Status),
        (Lifetime::Fixed(fixed), 200 | 203 | 301 | 308) => {
            let by_version = plan.is_versioned && plan.tier == Tier::Edge;
            Ok((fixed, if by_version { Source::Version } else { Source::Rule }))
        }
        (Lifetime::Fixed(fixed), 404 | 410) => Ok((fixed.min(NEGATIVE_MAX), Source::NotFound)),
        (Lifetime::Fixed(_), _) => Err(NotStored::Status),
        (Lifetime::FromOrigin, status) => {
            if !freshness::is_heuristically_cacheable(status) && !explicit && !control.public {
                return Err(NotStored::Status);
            }
            // A heuristic lifetime would let a name without a version outlive the next deploy.
            if plan.rule.versioned != Versioned::No && !explicit {
                return Ok((Millis::ZERO, Source::Nothing));
            }
            Ok(freshness::from_origin(control, is_targeted, response, now))
        }
    }
}

/// Statuses whose caching rules this cache knows (RFC 9110 section 15).
fn is_understood(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 302 | 307 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The `Cache-Control` for the client: `immutable` for versioned names, otherwise `browser` of the
/// rule, otherwise the origin's own. A name without a version gets one that forbids heuristic
/// caching where the origin says nothing.
fn client_cache_control(plan: &Plan<'_>, response: &ResponseHead<'_>) -> Option<String> {
    let status = response.status;
    if plan.is_sealed {
        // The answer is for the bearer of the token: the rule must not let a cache in front share
        // it.
        let browser = plan.rule.browser.filter(|_| status == 200)?;
        return Some(format!("private, max-age={}", browser.as_secs()));
    }
    if plan.is_versioned {
        let words = if status == 200 { "public, max-age=31536000, immutable" } else { NO_STORE };
        return Some(words.to_owned());
    }
    let is_said = ["cache-control", "expires"].iter().any(|name| has(response.fields, name));
    let is_among_assets = plan.rule.versioned != Versioned::No;
    if is_among_assets && plan.rule.browser.is_none() && !is_said && status == 200 {
        return Some("no-cache".to_owned());
    }
    let seconds = plan.rule.browser?.as_secs();
    (status == 200).then(|| format!("max-age={seconds}"))
}

/// Whether a script, style, image or font was answered with a page or data: the application ignores
/// what follows its own path, or this is cache deception (Gil, Black Hat 2017).
fn is_mismatch(target: &str, content_type: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((_, extension)) = name.rsplit_once('.') else { return false };
    let extension = extension.to_ascii_lowercase();
    let is_page = ["text/html", "application/xhtml", "application/json", "application/problem"]
        .iter()
        .any(|kind| content_type.starts_with(kind));
    is_page && STATIC.contains(&extension.as_str())
}
