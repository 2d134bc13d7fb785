//! Traces (W3C Trace Context), and a log line for each request.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http1::lines;
use rules::trace::Context;
use rules::{Problem, UnixMillis};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The span of a request or of a job's execution.
#[derive(Debug, Clone)]
pub struct Span {
    /// The caller's `traceparent`, if it is one line.
    caller: Option<HeaderValue>,
    /// Determined on demand: most requests that the cache answers need none.
    place: OnceLock<TracePosition>,
    trace_share: f64,
    pub method: Method,
    /// When it began.
    pub at: UnixMillis,
    started: Instant,
}

/// The position of a span in its trace.
#[derive(Debug, Clone, Copy)]
pub struct TracePosition {
    pub own: Context,
    /// The id of the parent span.
    pub parent: Option<u64>,
}

/// How a span ended.
pub struct SpanEnd<'a> {
    pub route: &'a str,
    pub status: u16,
    /// The cache's result, such as `hit; ttl=3`, looked up on demand.
    pub cache: &'a (dyn Fn() -> Option<&'a str> + 'a),
    /// The problem with which Spillway answered, and its detail.
    pub refusal: Option<(Problem, &'a str)>,
}

impl Span {
    /// Continues the trace that the fields name, or begins one.
    pub(super) fn enter(
        headers: &HeaderMap,
        method: &Method,
        now: UnixMillis,
        trace_share: f64,
    ) -> Self {
        let mut lines = lines::of(headers, &TRACEPARENT);
        let caller = match (lines.next(), lines.next()) {
            (Some(line), None) => Some(line.clone()),
            _ => None,
        };
        Self {
            caller,
            place: OnceLock::new(),
            trace_share,
            method: method.clone(),
            at: now,
            started: Instant::now(),
        }
    }

    pub fn place(&self) -> TracePosition {
        *self.place.get_or_init(|| {
            let caller = self.caller.as_ref().and_then(|line| Context::parse(line.to_str().ok()?));
            let own = match caller {
                Some(caller) => Context { span: random(), ..caller },
                None => begin(self.trace_share),
            };
            TracePosition { own, parent: caller.map(|caller| caller.span) }
        })
    }

    /// Sets the fields that name this span as the parent of the application's.
    pub fn pass_on(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.relay(headers).value()) {
            headers.insert(TRACEPARENT.clone(), value);
        }
    }

    /// Returns the trace field as a line beside the map.
    pub fn pass_on_as_line(&self, headers: &mut HeaderMap, added: &mut String) {
        let value = self.relay(headers).value();
        lines::push(added, TRACEPARENT.as_str(), str::from_utf8(&value).unwrap_or_default());
    }

    /// Removes the caller's trace fields, except the state of a trace that is continued.
    fn relay(&self, headers: &mut HeaderMap) -> Context {
        let TracePosition { own, parent } = self.place();
        lines::take(headers, &TRACEPARENT);
        if parent.is_none() {
            // The state of an invalid trace is meaningless.
            lines::take(headers, &TRACESTATE);
        }
        own
    }

    #[cfg(feature = "otlp")]
    pub(super) fn is_sampled(&self) -> bool {
        self.place().own.is_sampled
    }

    /// The trace id, in the form in which one searches for it.
    pub fn id(&self) -> String {
        format!("{:032x}", self.place().own.trace)
    }

    pub fn took(&self) -> Duration {
        self.started.elapsed()
    }
}

fn begin(share: f64) -> Context {
    let first = random();
    let second = after(first);
    let trace = (u128::from(first) << 64) | u128::from(second);
    Context { trace, span: after(second), is_sampled: is_drawn(share) }
}

/// A number that looks unrelated to its source, and is unique for it (the mixing of SplitMix64:
/// Steele, Lea and Flood, OOPSLA 2014). Never 0.
fn after(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}

/// The trace to which a job's stored fields belong.
pub fn trace_of(fields: &dyn rules::Fields) -> Option<String> {
    let context = Context::parse(&rules::head::first(fields, "traceparent")?)?;
    Some(format!("{:032x}", context.trace))
}

/// A unique number, not a secret. The standard library draws the keys of hash maps from the system
/// once per thread, and varies them for each map: a free random number, where a system call per
/// request costs a microsecond. Never 0, which is no valid id.
fn random() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

/// True for this fraction of calls, at random.
pub(super) fn is_drawn(share: f64) -> bool {
    share > 0.0 && is_in(share, random())
}

pub(super) fn is_in(share: f64, number: u64) -> bool {
    (number as f64) < share * u64::MAX as f64 || share >= 1.0
}

#[cfg(test)]
mod tests {
    use super::super::reporter::Telemetry;
    use super::*;
    use std::collections::BTreeSet;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn entered(lines: &[&'static str]) -> (Span, HeaderMap) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("traceparent", HeaderValue::from_static(line));
        }
        headers.insert("tracestate", HeaderValue::from_static("vendor=1"));
        let span = Telemetry::default().enter(&headers, &Method::GET, UnixMillis(0));
        span.pass_on(&mut headers);
        (span, headers)
    }

    #[test]
    fn a_callers_trace_goes_on_under_a_span_of_our_own() {
        let (span, headers) = entered(&[CALLER]);
        let caller = Context::parse(CALLER).expect("a context");
        let TracePosition { own, parent } = span.place();
        assert_eq!((own.trace, parent), (caller.trace, Some(caller.span)));
        assert!(own.span != caller.span && own.is_sampled);
        assert_eq!(headers["traceparent"], own.to_string());
        assert_eq!(headers["tracestate"], "vendor=1");
    }

    #[test]
    fn what_is_no_trace_is_replaced_with_its_state() {
        for lines in [&[] as &[&'static str], &["00-zz"], &[CALLER, CALLER]] {
            let (span, headers) = entered(lines);
            assert_eq!(headers.get_all("traceparent").iter().count(), 1);
            assert_eq!(headers["traceparent"], span.place().own.to_string());
            assert!(span.place().parent.is_none() && !headers.contains_key("tracestate"));
        }
    }

    #[test]
    fn ids_do_not_repeat_and_shares_are_kept() {
        let ids: BTreeSet<u64> = (0..10_000).map(|_| random()).collect();
        assert_eq!(ids.len(), 10_000);
        let share = |share| ids.iter().filter(|id| is_in(share, **id)).count();
        assert_eq!((share(0.0), share(1.0)), (0, 10_000));
        assert!((800..1200).contains(&share(0.1)), "{}", share(0.1));
    }
}
