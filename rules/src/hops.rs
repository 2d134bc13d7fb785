//! How many processes of ours a request has passed (RFC 8586). Edge and sidecar each add one member to
//! `CDN-Loop` when they send a request on to anything but their own application.
//!
//! Two that disagree on who serves what, and know each other by no common secret, would otherwise send
//! one request round until no descriptor is left.

use crate::head::Fields;

/// The field that is counted in, in lower case (RFC 8586).
pub const FIELD: &str = "cdn-loop";
/// The member that each of us adds.
pub const MEMBER: &str = "spillway";
/// Edge, the sidecar that is asked, the one that it forwards to: one more is no deployment.
pub(crate) const HOPS_MAX: usize = 3;

/// How many of us have sent it on. Members of others stay and are not looked at; what a client writes
/// itself makes the number higher, never lower, whatever it quotes.
pub fn count(fields: &dyn Fields) -> usize {
    let mut count = 0;
    fields.each(FIELD, &mut |line| {
        let members = line.split(|byte| *byte == b',');
        let names = members.filter_map(|member| member.split(|byte| *byte == b';').next());
        count +=
            names.filter(|name| name.trim_ascii().eq_ignore_ascii_case(MEMBER.as_bytes())).count();
    });
    count
}

/// Whether it goes round.
pub(crate) fn is_loop(fields: &dyn Fields) -> bool {
    count(fields) > HOPS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[&str]) -> usize {
        let lines: Vec<_> =
            lines.iter().map(|line| (FIELD.to_owned(), (*line).to_owned())).collect();
        count(&lines)
    }

    #[test]
    fn our_members_are_counted_in_whatever_company() {
        assert_eq!(counted(&[]), 0);
        assert_eq!(counted(&["cloudflare; subreqs=1", "fastly"]), 0);
        assert_eq!(counted(&["spillway, cloudflare;x=\"a\" , Spillway;v=1"]), 2);
        assert_eq!(counted(&["spillway", "other", " spillway "]), 2);
        assert_eq!(counted(&["spillway-2, myspillway, x.spillway"]), 0);
        // A quote that a client leaves open hides none of ours.
        assert_eq!(counted(&["x; y=\"open", "spillway"]), 1);
        assert_eq!(counted(&["x; y=\"open, spillway"]), 1);
    }
}
