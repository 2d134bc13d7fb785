//! What `spillway check` says about jobs, one line for each route: their owner, the fields stored
//! with them, and the effect of a logout.

use rules::document::{Auth, Document, Identity, Mode, Offload, ReplayAs};

pub fn jobs(document: &Document) -> Vec<String> {
    let offloads = document.routes.iter().filter_map(|route| {
        let offload = route.offload.as_ref().filter(|offload| offload.mode != Mode::Off)?;
        Some((&route.name, offload))
    });
    offloads
        .map(|(name, rule)| {
            let (owner, travels, logout) = (owner(rule), travels(rule), logout(rule));
            let queue = document.queues.get(&rule.queue);
            let is_foreign = queue.is_some_and(|queue| queue.foreign_consumers);
            let readers = if is_foreign { "; whoever reads their queue can end them" } else { "" };
            format!("{name}: its jobs belong to {owner}; {travels}; {logout}{readers}")
        })
        .collect()
}

fn owner(rule: &Offload) -> String {
    match rule.auth.identities() {
        [] => "whoever knows their id".to_owned(),
        identities => {
            let names: Vec<String> = identities.iter().map(Identity::to_string).collect();
            names.join(", else ")
        }
    }
}

fn travels(rule: &Offload) -> String {
    if rule.replay_as == ReplayAs::Caller {
        let seconds = rule.deadline.unwrap_or(rule.replay_ttl).as_secs();
        return format!("all fields of their caller travel, sealed, good for {seconds} s");
    }
    let kept = match &rule.auth {
        Auth::Caller { keep, .. } => keep.as_slice(),
        Auth::Open => &[],
    };
    let mut named = rule.forward_headers.clone();
    named.extend(kept.iter().map(|name| format!("{name} of the check's answer")));
    if named.is_empty() {
        return "nothing that says who their caller is travels".to_owned();
    }
    format!("they run as nobody, with {} in the open", named.join(", "))
}

/// The effect of a logout on polling, and on waiting jobs.
fn logout(rule: &Offload) -> String {
    let identities = rule.auth.identities();
    let is_checked = |it: &Identity| matches!(it, Identity::Check(_));
    let looking = match (identities.iter().any(is_checked), identities.iter().all(is_checked)) {
        (_, true) if identities.is_empty() => "a logout hides none",
        (true, true) => "a logout hides them within 5 s",
        (true, false) => {
            "a logout hides those of check:… within 5 s, others from nobody who still has the value"
        }
        (false, _) => "a logout hides none from who still has the value",
    };
    let running = match rule.replay_as {
        ReplayAs::Caller => "those that wait fail, if the application knows of the logout",
        ReplayAs::Nobody => "those that wait run all the same",
    };
    format!("{looking}, and {running}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(offload: &str) -> String {
        let queue = if offload.contains("[queue.q]") { "" } else { "[queue.q]\n" };
        let text = format!(
            "[[route]]\nname = 'r'\nmatch = {{ path = '/r', methods = ['GET'] }}\n\
             [route.offload]\nqueue = 'q'\nwhen = 'always'\n{offload}\n{queue}"
        );
        let document = rules::file::check(&text).expect("good rules").document;
        jobs(&document).concat()
    }

    #[test]
    fn each_route_says_whose_its_jobs_are_what_travels_and_what_a_logout_does() {
        assert_eq!(
            line("auth = 'none'"),
            "r: its jobs belong to whoever knows their id; nothing that says who their caller is travels; a logout hides none, and those that wait run all the same"
        );
        assert_eq!(
            line(
                "auth = { check = '/me', identity = 'check:X-User', keep = ['X-User'] }\nforward_headers = ['X-Tenant']"
            ),
            "r: its jobs belong to check:x-user; they run as nobody, with x-tenant, x-user of the check's answer in the open; a logout hides them within 5 s, and those that wait run all the same"
        );
        let both = "auth = { check = '/me', identity = ['check:X-User', 'cookie:s'] }\nreplay_as = 'caller'\ndeadline = '1m'";
        assert_eq!(
            line(both),
            "r: its jobs belong to check:x-user, else cookie:s; all fields of their caller travel, sealed, good for 60 s; a logout hides those of check:… within 5 s, others from nobody who still has the value, and those that wait fail, if the application knows of the logout"
        );
        assert!(line("auth = { identity = 'cookie:s' }").contains("hides none from who still has"));
        assert_eq!(line("mode = 'off'\nauth = 'none'"), "");
        let foreign = line("auth = 'none'\n[queue.q]\nforeign_consumers = true");
        assert!(foreign.ends_with("; whoever reads their queue can end them"), "{foreign}");
    }
}
