//! What a sidecar does while its rules can't be used: the file is missing, has a fault, or names
//! something that is not bound.

/// What replaces the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulesFallback {
    /// Every request goes uncached to this pod's own application; Spillway's own endpoints are
    /// refused.
    Pass,
    /// Every request is refused.
    Refuse,
}

impl RulesFallback {
    /// Metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Refuse => "refuse",
        }
    }
}

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Passes requests, unless the rules may protect something.
    Auto,
    /// Every request is sent on to the application, as if there were no rules.
    Pass,
    /// Every request is refused with the problem `rules-unreadable`.
    Refuse,
    /// The process does not start.
    None,
}

impl Wish {
    /// The values of `--rules-fallback`.
    pub const NAMES: [&str; 4] = ["auto", "pass", "refuse", "none"];

    /// The wish of that name, one of [`Wish::NAMES`]. Any other name means `none`.
    pub fn from_name(name: &str) -> Self {
        match name {
            "auto" => Self::Auto,
            "pass" => Self::Pass,
            "refuse" => Self::Refuse,
            _ => Self::None,
        }
    }
}

/// Words of rules that keep requests away from an application. They are searched as bytes, because
/// the text may not be valid TOML.
const PROTECTIVE: [&[u8]; 6] =
    [b"require_signature", b"authorize", b"refuse", b"shard", b"notify", b"rate_limit"];

/// Rules that can't be used, and what replaces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What is done with requests until the rules can be read.
    pub fallback: RulesFallback,
    /// Every fault of the file.
    pub reason: String,
}

/// Chooses what replaces unusable rules; none where the process must not start. `is_bound`: the
/// process has a shard, upstreams, queues or signing keys, which only rules need that protect or
/// divide something. `text` is the file, as far as it could be read.
pub fn choose(wish: Wish, is_bound: bool, text: Option<&[u8]>) -> Option<RulesFallback> {
    match wish {
        Wish::None => None,
        Wish::Pass => Some(RulesFallback::Pass),
        Wish::Refuse => Some(RulesFallback::Refuse),
        Wish::Auto if is_bound || text.is_some_and(protects) => Some(RulesFallback::Refuse),
        Wish::Auto => Some(RulesFallback::Pass),
    }
}

fn protects(text: &[u8]) -> bool {
    PROTECTIVE.iter().any(|word| text.windows(word.len()).any(|own| own == *word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::{SidecarAction, decide};
    use crate::{Head, NoFields, Problem, Rules};

    #[test]
    fn each_protective_word_refuses_also_in_the_middle_of_a_text_that_is_no_toml() {
        for word in PROTECTIVE {
            let text = [b"[[route]\n\xff x-".as_slice(), word, b" = \""].concat();
            assert_eq!(choose(Wish::Auto, false, Some(&text)), Some(RulesFallback::Refuse));
            let cut = &text[..text.len() - word.len() - 4];
            assert_eq!(choose(Wish::Auto, false, Some(cut)), Some(RulesFallback::Pass));
        }
    }

    #[test]
    fn what_the_process_is_bound_to_refuses_and_nothing_at_all_passes() {
        assert_eq!(choose(Wish::Auto, true, None), Some(RulesFallback::Refuse));
        assert_eq!(choose(Wish::Auto, false, None), Some(RulesFallback::Pass));
        assert_eq!(choose(Wish::Pass, true, Some(b"shard")), Some(RulesFallback::Pass));
        assert_eq!(choose(Wish::Refuse, false, None), Some(RulesFallback::Refuse));
        assert_eq!(choose(Wish::None, false, None), None);
        for name in Wish::NAMES {
            let is_none = Wish::from_name(name) == Wish::None;
            assert_eq!(is_none, name == "none");
        }
    }

    fn action(fallback: RulesFallback, method: &str, target: &str) -> String {
        let rules = Rules::unreadable(fallback, "no such file".to_owned());
        let head = Head { method, scheme: "http", host: "h", target, fields: &NoFields };
        match decide(&rules, &head).action {
            SidecarAction::Refuse(problem) => problem.name().to_owned(),
            SidecarAction::Proceed(proceed) => format!("to the app: {}", proceed.target()),
            SidecarAction::Reserved { .. } | SidecarAction::Preflight { .. } => {
                "answered by us".to_owned()
            }
        }
    }

    #[test]
    fn without_rules_all_passes_but_what_is_ours_or_nothing_does() {
        let unreadable = Problem::RulesUnreadable.name();
        for target in ["/", "/a%2Fb?x", "/admin"] {
            assert_eq!(
                action(RulesFallback::Pass, "POST", target),
                format!("to the app: {target}")
            );
            assert_eq!(action(RulesFallback::Refuse, "POST", target), unreadable);
        }
        for target in ["/_spillway/jobs/1", "/_spillway", "/%5Fspillway/problems/x"] {
            assert_eq!(action(RulesFallback::Pass, "GET", target), unreadable);
            assert_eq!(action(RulesFallback::Refuse, "GET", target), unreadable);
        }
        assert_eq!(action(RulesFallback::Pass, "GET", "/x//../_spillway/jobs/1"), "path-ambiguous");
    }
}
