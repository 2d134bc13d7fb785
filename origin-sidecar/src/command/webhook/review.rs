//! Answers one AdmissionReview, and determines what is reported about it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use inject::patch::Operation;
use inject::{Answer, Options, Outcome};
use serde_json::{Value, json};

/// The result of a review, for metrics and events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewResult {
    /// `injected`, `skipped` or `ignored`; for a Service `seen` or `warned`.
    pub result: &'static str,
    /// The name of the reason, or empty.
    pub reason: &'static str,
    /// The message for the pod's owner; empty where there is none.
    pub message: String,
}

/// The AdmissionReview that answers this one.
///
/// # Errors
/// Names what is missing in the review.
pub fn answer(body: &[u8], options: &Options) -> Result<(Value, ReviewResult), String> {
    let review: Value =
        serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    let request = &review["request"];
    let uid = request["uid"].as_str().ok_or("no request.uid: not an AdmissionReview")?;
    let mut response = json!({ "uid": uid, "allowed": true });
    let is_new_pod = request["kind"]["kind"] == "Pod"
        && request["operation"] == "CREATE"
        && request["object"].is_object();
    let is_service = request["kind"]["kind"] == "Service" && request["object"].is_object();
    let verdict = if is_new_pod {
        decide(&request["object"], options, &mut response)
    } else if is_service {
        look_at(&request["object"], &mut response)
    } else {
        ReviewResult { result: "ignored", reason: "not-a-pod", message: String::new() }
    };
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response,
    });
    Ok((answer, verdict))
}

/// Reviews a Service. Services are never changed; the author of one that bypasses the sidecars gets
/// a warning.
fn look_at(service: &Value, response: &mut Value) -> ReviewResult {
    let Some(warning) = inject::bypass::by_number(service) else {
        return ReviewResult { result: "seen", reason: "", message: String::new() };
    };
    response["warnings"] = json!([format!("spillway: {warning}")]);
    let reason = warning.caution.as_str();
    ReviewResult { result: "warned", reason, message: warning.to_string() }
}

fn decide(pod: &Value, options: &Options, response: &mut Value) -> ReviewResult {
    let Answer { outcome, warnings, is_asked_for } = inject::inject(pod, options);
    let mut told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let verdict = match outcome {
        Outcome::Injected { patch, .. } => {
            let patch: Vec<Value> = patch.iter().map(Operation::to_json).collect();
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(Value::from(patch).to_string()).into();
            ReviewResult {
                result: "injected",
                reason: "",
                message: "the sidecar was injected".into(),
            }
        }
        Outcome::Already => {
            ReviewResult { result: "skipped", reason: "already-injected", message: String::new() }
        }
        Outcome::Refused(refusals) => {
            let is_news = |quiet: bool| is_asked_for || !quiet;
            let news: Vec<String> = refusals
                .iter()
                .filter(|refusal| is_news(refusal.reason.is_quiet()))
                .map(ToString::to_string)
                .collect();
            told.extend(news.iter().cloned());
            let reason = refusals.first().map_or("", |refusal| refusal.reason.as_str());
            ReviewResult { result: "skipped", reason, message: news.join("; ") }
        }
    };
    if !told.is_empty() {
        let told = told.iter().map(|text| format!("spillway: {text}"));
        response["warnings"] = told.collect();
    }
    verdict
}
