//! Groups jobs by tenant, so that nobody's backlog delays the others (SQS fair queues).

use super::caller::Caller;
use super::offered::OffloadCandidate;
use crate::secrets::{Purpose, Secrets};
use rules::document::KeySource;

/// A group name that reveals nothing about the tenant: the rule's `tenant`, otherwise the caller.
pub(super) fn group(offered: &OffloadCandidate<'_>, secrets: &Secrets) -> Option<String> {
    let tenant = match &offered.rule.tenant {
        None => return of_caller(&offered.allowed.caller, secrets),
        // The application's answer about the caller takes precedence over the request's fields.
        Some(KeySource::Header(name)) => {
            kept(offered, name).or_else(|| offered.value(&KeySource::Header(name.clone())))
        }
        Some(source) => offered.value(source),
    };
    let tenant = tenant.filter(|tenant| !tenant.is_empty())?;
    Some(secrets.sign(Purpose::Tenant, &[tenant.as_bytes()]))
}

fn of_caller(caller: &Caller, secrets: &Secrets) -> Option<String> {
    let is_known = matches!(caller, Caller::Known { .. });
    is_known.then(|| secrets.sign(Purpose::Tenant, &caller.parts()))
}

fn kept(offered: &OffloadCandidate<'_>, name: &str) -> Option<String> {
    let (_, value) = offered.allowed.keep.iter().find(|(own, _)| own.as_str() == name)?;
    value.to_str().ok().map(str::to_owned)
}
