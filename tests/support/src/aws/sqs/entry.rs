//! Messages and refusals as they stand in a call or an answer.

use super::BYTES_MAX;
use super::queue::Message;
use serde_json::{Map, Value, json};

/// What the service does not do, by its own name for it.
pub(in crate::aws) struct Refusal {
    pub code: &'static str,
    pub message: String,
    is_ours: bool,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), is_ours: false }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    pub(super) fn no_queue() -> Self {
        Self::new("QueueDoesNotExist", "the queue is not there")
    }

    pub(super) fn stale() -> Self {
        Self::new("ReceiptHandleIsInvalid", "the receipt handle is not or no longer good")
    }

    pub(super) fn broken() -> Self {
        Self { is_ours: true, ..Self::new("InternalError", "a test wants it so") }
    }

    pub(super) fn of_entry(&self, id: &str) -> Value {
        json!({ "Id": id, "Code": self.code, "Message": self.message, "SenderFault": !self.is_ours })
    }
}

/// # Errors
/// When it is missing.
pub(super) fn text<'a>(input: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let missing = || Refusal::new("MissingParameter", format!("{name} is missing"));
    input[name].as_str().ok_or_else(missing)
}

/// # Errors
/// When there are too many.
pub(super) fn seconds(input: &Value, name: &str, max: u64) -> Result<Option<u64>, Refusal> {
    match &input[name] {
        Value::Null => Ok(None),
        value => match value.as_u64() {
            Some(seconds) if seconds <= max => Ok(Some(seconds)),
            _ => Err(Refusal::invalid(format!("{name} is from 0 to {max}"))),
        },
    }
}

/// A batch is as long as a message at most.
pub(super) fn batch_fits(input: &Value) -> Result<(), Refusal> {
    let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes: usize = entries.iter().map(size).sum();
    if bytes > BYTES_MAX {
        return Err(Refusal::new("BatchRequestTooLong", format!("{bytes} bytes")));
    }
    Ok(())
}

/// Body and attributes' names, types and values.
fn size(input: &Value) -> usize {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let attributes = input["MessageAttributes"].as_object().into_iter().flatten();
    let attributes = attributes.map(|(name, value)| {
        let binary = length(&value["BinaryValue"]) / 4 * 3;
        name.len() + length(&value["DataType"]) + length(&value["StringValue"]) + binary
    });
    length(&input["MessageBody"]) + attributes.sum::<usize>()
}

fn is_legal(text: &str) -> bool {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    !text.is_empty() && text.chars().all(legal)
}

/// The message that is to be sent.
pub(super) fn message(input: &Value, id: String, bytes_max: usize) -> Result<Message, Refusal> {
    let body = text(input, "MessageBody")?.to_owned();
    let attributes = input["MessageAttributes"].as_object().cloned().unwrap_or_default();
    if !is_legal(&body) {
        return Err(Refusal::new("InvalidMessageContents", "a character that is not allowed"));
    }
    if attributes.len() > 10 {
        return Err(Refusal::invalid("more than ten attributes"));
    }
    for (name, value) in &attributes {
        if value["StringValue"].as_str().is_some_and(|value| !is_legal(value)) {
            return Err(Refusal::invalid(format!("the value of the attribute {name}")));
        }
    }
    let bytes = size(input);
    if bytes > bytes_max {
        return Err(Refusal::invalid(format!("{bytes} bytes, the queue takes {bytes_max}")));
    }
    let group = input["MessageGroupId"].as_str().map(str::to_owned);
    Ok(Message::new(id, body, attributes, group))
}

/// A message as a receive answers it, with the attributes that were asked for.
pub(super) fn received(message: &Message, receipt: &str, input: &Value) -> Value {
    let asked = |field: &str| -> Vec<String> {
        let names = input[field].as_array().cloned().unwrap_or_default();
        names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut system = asked("MessageSystemAttributeNames");
    system.extend(asked("AttributeNames"));
    let group = message.group.clone().map(|group| ("MessageGroupId", group));
    let known = [
        ("ApproximateReceiveCount", message.receives.to_string()),
        ("SentTimestamp", message.sent.to_string()),
        ("ApproximateFirstReceiveTimestamp", message.first_received.to_string()),
        ("SenderId", "cloud".to_owned()),
    ];
    let is_wanted = |name: &str| system.iter().any(|wanted| wanted == "All" || wanted == name);
    let known = known.into_iter().chain(group).filter(|(name, _)| is_wanted(name));
    let own: Map<String, Value> =
        known.map(|(name, value)| (name.to_owned(), value.into())).collect();
    let mut found = json!({
        "MessageId": message.id,
        "ReceiptHandle": receipt,
        "Body": message.body,
        "Attributes": own,
    });
    let names = asked("MessageAttributeNames");
    let is_wanted = |name: &str| {
        names.iter().any(|wanted| {
            let start = wanted.strip_suffix('*').filter(|_| wanted.ends_with(".*"));
            wanted == "All" || wanted == name || start.is_some_and(|start| name.starts_with(start))
        })
    };
    let attributes = message.attributes.iter().filter(|(name, _)| is_wanted(name));
    let attributes: Map<String, Value> =
        attributes.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !attributes.is_empty() {
        found["MessageAttributes"] = attributes.into();
    }
    found
}
