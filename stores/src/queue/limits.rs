//! The limits of messages of Amazon SQS, which the embedded queue follows and which emulators do not enforce.

use super::{ATTRIBUTES_MAX, Message, QueueError, is_legal_body};
use std::time::Duration;

/// The largest message of SQS and of the embedded queue in bytes, with attribute names, types and values.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The longest time for which a message may be invisible in SQS.
const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// The largest number of messages that SQS hands over at once.
pub(super) const RECEIVE_MAX: usize = 10;

/// The longest wait of one receive of SQS.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

/// The largest number of characters in the name of an attribute of SQS.
const NAME_MAX: usize = 256;

/// The only type of attribute sent; its name counts towards the size.
pub(super) const ATTRIBUTE_TYPE: &str = "String";

/// The size of the message in bytes as SQS counts it, or why SQS would not take it.
pub(super) fn check(message: &Message, bytes_max: usize) -> Result<usize, QueueError> {
    if !is_legal_body(&message.body) {
        return Err(illegal("the body is empty or has a character that SQS forbids"));
    }
    if message.attributes.len() > ATTRIBUTES_MAX {
        return Err(illegal(format!("more than {ATTRIBUTES_MAX} attributes")));
    }
    if message.group.as_deref().is_some_and(|group| !is_legal_group(group)) {
        return Err(illegal("the group is empty, too long or has a character that SQS forbids"));
    }
    let mut bytes = message.body.len();
    for (name, value) in &message.attributes {
        if !is_legal_name(name) {
            return Err(illegal(format!("the attribute name {name:?}")));
        }
        if !is_legal_body(value) {
            return Err(illegal(format!("the value of the attribute {name:?}")));
        }
        bytes += name.len() + ATTRIBUTE_TYPE.len() + value.len();
    }
    if bytes > bytes_max {
        let detail = format!("{bytes} bytes, the queue takes {bytes_max}");
        return Err(QueueError { name: "message-too-large", detail });
    }
    Ok(bytes)
}

/// Refuses what SQS refuses, so that a rules file does not work with one queue only.
pub(super) fn check_visibility(visibility: Duration) -> Result<(), QueueError> {
    if visibility <= VISIBILITY_MAX {
        return Ok(());
    }
    let detail = format!("a visibility of {visibility:?}, the limit is {VISIBILITY_MAX:?}");
    Err(QueueError { name: "refused", detail })
}

/// Whether SQS takes this as a message group: 1 to 128 alphanumeric characters and punctuation.
fn is_legal_group(group: &str) -> bool {
    const CHARS_MAX: usize = 128;
    !group.is_empty() && group.len() <= CHARS_MAX && group.bytes().all(|it| it.is_ascii_graphic())
}

fn is_legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let reserved = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name.chars().all(legal)
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && !reserved("AWS.")
        && !reserved("Amazon.")
}

fn illegal(detail: impl Into<String>) -> QueueError {
    QueueError { name: "message-illegal", detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Message {
        let attributes = [(name.into(), value.into())].into();
        Message { body: "b".into(), attributes, group: None }
    }

    #[test]
    fn names_types_and_values_count() {
        assert_eq!(check(&with("abc", "é"), MESSAGE_BYTES_MAX), Ok(1 + 3 + 6 + 2));
        assert_eq!(check(&with("abc", "é"), 12), Ok(12));
        let error = check(&with("abc", "é"), 11).expect_err("one byte over");
        assert_eq!(error.name, "message-too-large");
    }

    #[test]
    fn what_sqs_forbids_is_refused() {
        let long = "x".repeat(NAME_MAX + 1);
        for name in ["", "a b", ".a", "a.", "a..b", "AWS.x", "amazon.x", "ä", long.as_str()] {
            let error = check(&with(name, "v"), MESSAGE_BYTES_MAX).expect_err(name);
            assert_eq!(error.name, "message-illegal", "{name}");
        }
        for value in ["", "\0", "\u{FFFE}", "a\u{1b}"] {
            let error = check(&with("a", value), MESSAGE_BYTES_MAX).expect_err(value);
            assert_eq!(error.name, "message-illegal", "{value:?}");
        }
        for name in ["job-id", "a.b", "_", "awsx"] {
            check(&with(name, "v"), MESSAGE_BYTES_MAX).expect(name);
        }
    }

    #[test]
    fn a_group_is_short_and_printable() {
        for (group, is_legal) in [("a", true), ("", false), ("a b", false), ("ä", false)] {
            let message =
                Message { body: "b".into(), group: Some(group.into()), ..Message::default() };
            assert_eq!(check(&message, MESSAGE_BYTES_MAX).is_ok(), is_legal, "{group:?}");
        }
    }

    #[test]
    fn twelve_hours_is_the_longest_visibility() {
        assert_eq!(check_visibility(VISIBILITY_MAX), Ok(()));
        assert!(check_visibility(VISIBILITY_MAX + Duration::from_millis(1)).is_err());
    }
}
