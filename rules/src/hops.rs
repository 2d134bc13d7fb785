//! Counts the Spillway processes that a request has passed (RFC 8586). Edge and sidecar each add
//! one member to `CDN-Loop` when they forward a request to anything but their own application.
//!
//! Otherwise two processes that disagree on who serves what, and that share no secret, would
//! forward one request in a loop until descriptors run out.

use crate::head::Fields;

/// The name of the field, in lower case (RFC 8586).
pub const FIELD: &str = "cdn-loop";
/// The member that each process adds.
pub const MEMBER: &str = "spillway";
/// A request passes the edge, the sidecar that receives it and the one that it forwards to. No
/// deployment has more.
pub(crate) const HOPS_MAX: usize = 3;

/// How many Spillway processes have forwarded the request. Members of other systems are ignored.
/// What a client writes itself can raise the number but never lower it.
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

/// Whether the request is in a loop.
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
        // A quote that a client leaves open hides none of our members.
        assert_eq!(counted(&["x; y=\"open", "spillway"]), 1);
        assert_eq!(counted(&["x; y=\"open, spillway"]), 1);
    }
}
