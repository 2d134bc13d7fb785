//! What the sidecar may use, so that a pod that was accepted without it is accepted with it, in the
//! class of service that it had.
//!
//! A CPU limit throttles a proxy long before its node is busy, so there is none by default. But a quota on
//! `limits.cpu` refuses a pod of which one container has none, and a pod is Guaranteed only while all of
//! its containers request what they may use.

use crate::names::{AUTO, NONE};
use crate::options::Options;
use crate::target::list;
use serde_json::{Map, Value, json};

/// The CPU limit where the pod has to have one: a twentieth of a core, as requested, would be no proxy.
pub const CPU_LIMIT: &str = "500m";

pub const STORAGE: &str = "ephemeral-storage";
/// Its limit is the size of the folder for large results, which counts to it.
pub const STORAGE_REQUEST: &str = "64Mi";

/// Requests and limits of the sidecar; none where the pod has some as a whole, in which it shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    pub cpu_request: String,
    pub cpu_limit: Option<String>,
    pub memory_request: String,
    pub memory_limit: String,
    /// Where all other containers have one, as a quota wants it.
    pub storage_request: Option<String>,
    pub storage_limit: Option<String>,
}

impl Resources {
    /// For a pod of which nothing is known.
    pub fn unseen(options: &Options) -> Self {
        let limit =
            Some(&options.cpu_limit).filter(|limit| ![AUTO, NONE].contains(&limit.as_str()));
        Self {
            cpu_request: options.cpu_request.clone(),
            cpu_limit: limit.cloned(),
            memory_request: options.memory_request.clone(),
            memory_limit: options.memory_limit.clone(),
            storage_request: None,
            storage_limit: None,
        }
    }

    pub fn of(spec: &Value, options: &Options) -> Option<Self> {
        if is_pod_level(spec) {
            return None;
        }
        let mut own = Self::unseen(options);
        own.storage_request =
            all_have(spec, "requests", STORAGE).then(|| STORAGE_REQUEST.to_owned());
        own.storage_limit = all_have(spec, "limits", STORAGE).then(|| options.spool.clone());
        if options.cpu_limit == AUTO && all_have(spec, "limits", "cpu") {
            let is_more = quantity(&own.cpu_request) > quantity(CPU_LIMIT);
            let limit = if is_more { own.cpu_request.as_str() } else { CPU_LIMIT };
            own.cpu_limit = Some(limit.to_owned());
        }
        if let Some(limit) = own.cpu_limit.as_ref().filter(|_| is_guaranteed(spec)) {
            own.cpu_request.clone_from(limit);
            own.memory_request.clone_from(&own.memory_limit);
        }
        Some(own)
    }

    pub fn to_json(&self) -> Value {
        let mut limits = Map::new();
        if let Some(limit) = &self.cpu_limit {
            limits.insert("cpu".to_owned(), limit.as_str().into());
        }
        limits.insert("memory".to_owned(), self.memory_limit.as_str().into());
        let mut requests = json!({ "cpu": self.cpu_request, "memory": self.memory_request });
        if let Some(request) = &self.storage_request {
            requests[STORAGE] = request.as_str().into();
        }
        if let Some(limit) = &self.storage_limit {
            limits.insert(STORAGE.to_owned(), limit.as_str().into());
        }
        json!({ "requests": requests, "limits": limits })
    }
}

/// Whether the pod has resources as a whole (Kubernetes 1.34): the sidecar's own would have to fit in.
fn is_pod_level(spec: &Value) -> bool {
    let of = |kind: &str| spec.get("resources").and_then(|all| all.get(kind)).is_some();
    of("limits") || of("requests")
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(spec, "containers").iter().chain(list(spec, "initContainers"))
}

fn all_have(spec: &Value, kind: &str, of: &str) -> bool {
    containers(spec).all(|one| amount(one, kind, of).is_some())
}

/// Whether Kubernetes promises the pod all that it may use.
pub fn is_guaranteed(spec: &Value) -> bool {
    let is_whole = |container: &Value, of: &str| {
        let limit = amount(container, "limits", of);
        // A request that is not given is the limit.
        let request = amount(container, "requests", of).or_else(|| limit.clone());
        limit.is_some_and(|limit| quantity(&limit) == request.and_then(|own| quantity(&own)))
    };
    !is_pod_level(spec)
        && containers(spec).all(|one| ["cpu", "memory"].iter().all(|of| is_whole(one, of)))
}

/// `cpu: 1` and `cpu: "1"` are the same.
fn amount(container: &Value, kind: &str, of: &str) -> Option<String> {
    match container.get("resources")?.get(kind)?.get(of)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Billionths in one.
pub const NANO: i128 = 1_000_000_000;

/// Billionths of a quantity; none for what is none.
pub fn quantity(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = part.get(..part.len().min(9))?;
    let part = if digits.is_empty() { 0 } else { format!("{digits:0<9}").parse::<i128>().ok()? };
    let nano = whole.parse::<i128>().ok()?.checked_mul(NANO)?.checked_add(part)?;
    let (times, per): (i128, i128) = match unit {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (1_000 * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        _ => return None,
    };
    Some(nano.checked_mul(times)? / per)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_what_it_amounts_to() {
        for (one, other) in [("1", "1000m"), ("0.5", "500m"), ("1.1", "1100m"), ("1Gi", "1024Mi")] {
            assert_eq!(quantity(one), quantity(other), "{one} {other}");
            assert!(quantity(one).is_some());
        }
        assert!(quantity("50m") < quantity("500m") && quantity("1Ki") > quantity("1k"));
        for bad in ["", "m", "1e3", ".5x", "one", "999999999999999999999999999999999Ti"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }

    #[test]
    fn without_a_cpu_limit_anywhere_the_sidecar_has_none() {
        let spec = json!({ "containers": [{}, { "resources": { "limits": { "cpu": 1 } } }] });
        let own = Resources::of(&spec, &Options::default()).expect("its own");
        assert_eq!(own, Resources::unseen(&Options::default()));
        assert_eq!(own.cpu_limit, None);
        let two = Options { cpu_limit: "2".to_owned(), ..Options::default() };
        assert_eq!(Resources::of(&spec, &two).expect("its own").cpu_limit.as_deref(), Some("2"));
    }

    #[test]
    fn where_all_have_a_cpu_limit_the_sidecar_has_one_that_holds_its_request() {
        let limited = json!({ "resources": { "limits": { "cpu": "1" } } });
        let spec = json!({ "containers": [limited.clone()], "initContainers": [limited] });
        for (request, limit) in [("50m", "500m"), ("0.5", "500m"), ("600m", "600m")] {
            let options = Options { cpu_request: request.to_owned(), ..Options::default() };
            let own = Resources::of(&spec, &options).expect("its own");
            assert_eq!(own.cpu_limit.as_deref(), Some(limit));
            assert_eq!(own.cpu_request, request);
        }
        let none = Options { cpu_limit: NONE.to_owned(), ..Options::default() };
        assert_eq!(Resources::of(&spec, &none).expect("its own").cpu_limit, None);
    }

    #[test]
    fn a_guaranteed_pod_stays_so_unless_it_wants_no_limit() {
        let whole = json!({ "resources": {
            "limits": { "cpu": 1, "memory": "1Gi" }, "requests": { "cpu": "1000m" } } });
        let spec = json!({ "containers": [whole] });
        assert!(is_guaranteed(&spec));
        let own = Resources::of(&spec, &Options::default()).expect("its own");
        assert_eq!(own.to_json()["requests"], own.to_json()["limits"]);
        assert_eq!(own.cpu_request, CPU_LIMIT);
        let none = Options { cpu_limit: NONE.to_owned(), ..Options::default() };
        assert_eq!(Resources::of(&spec, &none).expect("its own").cpu_request, "50m");
        let burstable = json!({ "containers": [{ "resources": {
            "limits": { "cpu": 1, "memory": "1Gi" }, "requests": { "cpu": "900m" } } }] });
        assert!(!is_guaranteed(&burstable));
    }

    #[test]
    fn where_all_have_a_limit_of_storage_the_sidecar_has_one_too() {
        let limited = json!({ "resources": { "limits": { STORAGE: "2Gi" } } });
        let spec = json!({ "containers": [limited.clone()], "initContainers": [{}] });
        let own = Resources::of(&spec, &Options::default()).expect("its own");
        assert_eq!(own.storage_limit, None);
        let spec = json!({ "containers": [limited] });
        let own = Resources::of(&spec, &Options::default()).expect("its own").to_json();
        assert_eq!(own["limits"][STORAGE], "1Gi");
        assert!(own["requests"].get(STORAGE).is_none(), "it is the limit then, as with theirs");
    }

    #[test]
    fn in_a_pod_with_resources_as_a_whole_the_sidecar_shares_them() {
        let spec = json!({ "resources": { "limits": { "cpu": 1 } }, "containers": [{}] });
        assert_eq!(Resources::of(&spec, &Options::default()), None);
    }
}
