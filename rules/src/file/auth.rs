//! `[route.offload.auth]`: who may start a job, and whose it is.

use super::tree::{Table, Value};
use super::values::lower;
use crate::document::{Auth, Identity, Login};
use crate::trust::needs_named_proxy;

/// Parts of field names that hold a client's own secret.
const SECRETS: [&str; 6] = ["authorization", "key", "token", "secret", "session", "signature"];
/// Parts of field names that identify somebody, even beside a part of `SECRETS`:
/// X-Auth-Request-User, X-Token-Subject.
const NAMES: [&str; 6] = ["user", "email", "name", "subject", "account", "-id"];

pub(super) fn read(offload: &Table<'_>) -> Auth {
    let Some(value) = offload.value("auth") else {
        let reason =
            "the route does not say who may start its jobs and read their results".to_owned();
        offload.fault("offload-without-auth", reason, "Add auth = { check = \"/path\", identity = \"check:X-User-Id\" }, or auth = \"none\" if anyone may.");
        return Auth::Open;
    };
    if !value.is_table() {
        value.choice(&[("none", ())]);
        return Auth::Open;
    }
    let Some(table) = value.table() else { return Auth::Open };
    let check = table.text("check");
    let keep = lower(table.texts("keep").unwrap_or_default());
    let identity = identities(&table);
    for own in &identity {
        is_the_clients_own(&table, own, &keep);
        if matches!(own, Identity::Check(_)) && check.is_none() {
            let reason = format!("`{own}` is a field of the check's answer, and there is no check");
            let remedy = "Add check = \"/path\": a path of the application that answers 2xx to who is logged in.";
            table.fault("identity-without-check", reason, remedy);
        }
    }
    let login = login(&table);
    table.finish();
    Auth::Caller { check, identity, keep, login }
}

fn login(table: &Table<'_>) -> Option<Login> {
    let value = table.value("login")?;
    let text = value.text()?;
    if text == "none" {
        return Some(Login::None);
    }
    if !text.starts_with('/') || text.starts_with("//") || text.contains(['?', '#', '\\']) {
        let reason = format!("`{text}` is not a path of the application");
        value.fault("bad-login", reason, "Write a path without a query, \"/login\", or \"none\".");
    }
    Some(Login::Path(text.to_owned()))
}

/// Reads one source or several; the first one that a request has counts.
fn identities(table: &Table<'_>) -> Vec<Identity> {
    let value = table.value("identity");
    let values = match &value {
        Some(value) if value.is_text() => vec![value.clone()],
        Some(value) => value.items(),
        None => Vec::new(),
    };
    if values.is_empty() {
        table.missing("identity", "who the caller is, e.g. \"check:X-User-Id\"");
    }
    values.iter().filter_map(identity).collect()
}

pub(super) fn identity(value: &Value<'_>) -> Option<Identity> {
    let text = value.text()?;
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let identity = match (kind, name) {
        (_, "") => None,
        ("check", name) => Some(Identity::Check(name.to_ascii_lowercase())),
        ("header", name) => Some(Identity::Header(name.to_ascii_lowercase())),
        ("cookie", name) => Some(Identity::Cookie(name.to_owned())),
        _ => None,
    };
    if identity.is_none() {
        let reason = match kind {
            "path" | "query" | "body" => "every client can write the user of its choice there",
            _ => "this does not say where the caller is named",
        };
        let remedy =
            "Write check:NAME (a field of what auth.check answers), cookie:NAME or header:NAME.";
        value.fault("bad-identity", format!("`{text}`: {reason}"), remedy);
    }
    identity
}

/// Warns where the identity is taken from a field that is no secret of the client's, such as an API
/// key, but merely a name.
fn is_the_clients_own(table: &Table<'_>, identity: &Identity, keep: &[String]) {
    let Identity::Header(name) = identity else { return };
    let remedy = format!(
        "Write check:{name}: then the application says who it is, and what a client writes there is removed."
    );
    if keep.contains(name) {
        let reason = format!(
            "`{name}` is what the application answers (keep), but {identity} takes it from the client, who can write any user there"
        );
        table.fault("identity-from-client", reason, &remedy);
    } else if needs_named_proxy(name) {
        let reason = format!(
            "only a proxy that --trusted-proxy names by its address can say `{name}`; without one the sidecar does not start"
        );
        table.warn("identity-from-client", reason, &remedy);
    } else if NAMES.iter().any(|part| name.contains(part))
        || !SECRETS.iter().any(|part| name.contains(part))
    {
        let reason = format!("whoever writes a user into `{name}` owns the jobs of that user");
        table.warn("identity-from-client", reason, &remedy);
    }
}

#[cfg(test)]
mod tests {
    use crate::file::check;

    fn rules(auth: &str) -> String {
        format!(
            "[[route]]\nname = \"r\"\nmatch = {{ path = \"/r\", methods = [\"GET\"] }}\n\
             offload = {{ queue = \"q\", when = \"always\", auth = {auth} }}\n[queue.q]\n"
        )
    }

    #[test]
    fn who_a_caller_is_can_not_be_what_every_client_may_write() {
        let fault = |auth: &str| check(&rules(auth)).err().map(|faults| faults[0].name);
        for (auth, wanted) in [
            ("{ check = '/me', identity = 'check:X-User-Id' }", None),
            ("{ check = '/me', identity = ['check:X-User-Id', 'cookie:session'] }", None),
            ("{ identity = 'header:Authorization' }", None),
            ("{ identity = 'check:X-User-Id' }", Some("identity-without-check")),
            ("{ identity = [] }", Some("missing-key")),
            ("{ check = '/me' }", Some("missing-key")),
            ("{ identity = 'query:user' }", Some("bad-identity")),
            ("{ identity = 'session' }", Some("bad-identity")),
            ("{ identity = 'cookie:' }", Some("bad-identity")),
            (
                "{ check = '/me', identity = 'header:X-User-Id', keep = ['x-user-id'] }",
                Some("identity-from-client"),
            ),
        ] {
            assert_eq!(fault(auth), wanted, "{auth}");
        }
    }

    #[test]
    fn a_header_that_is_no_secret_is_warned_about() {
        for (name, is_warned) in [
            ("Authorization", false),
            ("X-Api-Key", false),
            ("X-User-Id", true),
            ("X-Auth-Request-User", true),
            ("X-Auth-Request-Email", true),
            ("X-Authenticated-Userid", true),
            ("X-Amzn-Oidc-Identity", true),
            ("X-Forwarded-User", true),
        ] {
            let checked = check(&rules(&format!("{{ identity = 'header:{name}' }}")));
            let found = checked.expect("good rules").warnings;
            let is_found = found.iter().any(|warning| warning.name == "identity-from-client");
            assert_eq!(is_found, is_warned, "{name}: {found:?}");
        }
    }
}
