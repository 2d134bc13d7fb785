//! What every queue does, one step per line:
//!
//! ```text
//! send NAME [-> ERROR]                        the message of that name, see `message`
//! receive [max=N] [wait=Ns] [visibility=Ns] -> NAME@TIME … | nothing
//! while receive … -> … : send NAME            the send begins after the receive
//! delete NAME@TIME [-> ERROR]                 by the receipt of that receive
//! visibility NAME@TIME SECONDS [-> ERROR]
//! depth VISIBLE IN_FLIGHT DEAD
//! dead -> NAME … | nothing                    receives and deletes what lies with the dead letters
//! ```
//!
//! `a@2` is message *a* received the second time. Every receive compares body, attributes, count and
//! time of sending with what was sent.

use rules::UnixMillis;
use std::collections::HashMap;
use std::time::Duration;
use stores::queue::{Message, Queue, QueueError, Received};

/// How often a message is received before it goes to the dead letters, in every case.
pub(super) const MAX_RECEIVES: u64 = 2;

pub(super) const CASES: &[(&str, &str)] = &[
    (
        "a message is received once while it is invisible",
        "send a
         receive -> a@1
         receive -> nothing",
    ),
    (
        "a deleted message does not come back",
        "send a
         receive visibility=1s -> a@1
         delete a@1
         receive wait=2s -> nothing
         depth 0 0 0",
    ),
    (
        "a delete may be repeated",
        "send a
         receive -> a@1
         delete a@1
         delete a@1",
    ),
    (
        "a message released at zero is received at once",
        "send a
         receive visibility=600s -> a@1
         visibility a@1 0
         receive -> a@2",
    ),
    (
        "a message is received again when its visibility runs out",
        "send a
         receive visibility=1s -> a@1
         receive wait=20s -> a@2",
    ),
    (
        "a longer visibility keeps a message away",
        "send a
         receive visibility=1s -> a@1
         visibility a@1 600
         receive wait=2s -> nothing
         depth 0 1 0",
    ),
    ("a long poll wakes on a late send", "while receive wait=20s -> a@1 : send a"),
    (
        "a receive takes as many as it asked for",
        "send a
         send b
         send c
         receive max=2 -> 2 of them
         receive max=10 -> 1 of them
         receive max=10 -> nothing",
    ),
    (
        "body and attributes survive",
        "send unicode
         receive -> unicode@1
         send big
         receive -> big@1",
    ),
    (
        "what SQS does not take is refused",
        "send empty -> message-illegal
         send control -> message-illegal
         send eleven-attributes -> message-illegal
         send empty-attribute -> message-illegal
         send oversize -> message-too-large
         depth 0 0 0",
    ),
    (
        "a message received too often goes to the dead letters",
        "send a
         receive -> a@1
         visibility a@1 0
         receive -> a@2
         visibility a@2 0
         send b
         receive max=10 wait=20s -> b@1
         depth 0 1 1",
    ),
    (
        "a dead letter can be read, sent again and deleted",
        "send a
         receive -> a@1
         visibility a@1 0
         receive -> a@2
         visibility a@2 0
         receive -> nothing
         dead -> a
         dead -> nothing
         depth 0 0 0",
    ),
    (
        "a message's tenant comes with it",
        "send of-alice
         receive -> of-alice@1",
    ),
    (
        "the depth counts what waits and what is in flight",
        "depth 0 0 0
         send a
         send b
         send c
         depth 3 0 0
         receive -> 1 of them
         depth 2 1 0",
    ),
    (
        "no longer than twelve hours out of sight",
        "send a
         receive visibility=43201s -> refused
         receive -> a@1
         visibility a@1 43201 -> refused",
    ),
    ("a receipt that nobody gave out", "visibility unknown@1 5 -> receipt-stale"),
];

/// What SQS leaves open: receipts that are no longer, or never were, good.
pub(super) const RECEIPTS: &[(&str, &str)] = &[
    (
        "an out-of-date receipt can do nothing",
        "send a
         receive -> a@1
         visibility a@1 0
         receive -> a@2
         delete a@1 -> receipt-stale
         visibility a@1 0 -> receipt-stale
         receive -> nothing
         delete a@2",
    ),
    (
        "a receipt of a deleted message",
        "send a
         receive -> a@1
         delete a@1
         visibility a@1 0 -> receipt-stale",
    ),
    ("a delete with a receipt that is none", "delete unknown@1 -> receipt-stale"),
];

/// Runs the case; the error names the step.
pub(super) async fn run(queue: &dyn Queue, script: &str) -> Result<(), String> {
    let mut run = Run { queue, sent: HashMap::new(), receipts: HashMap::new() };
    for line in script.lines().map(str::trim) {
        run.step(line).await.map_err(|fault| format!("{line}\n      {fault}"))?;
    }
    Ok(())
}

struct Run<'a> {
    queue: &'a dyn Queue,
    /// Name and message by id.
    sent: HashMap<String, (String, Message)>,
    /// By `NAME@TIME`.
    receipts: HashMap<String, String>,
}

impl Run<'_> {
    async fn step(&mut self, line: &str) -> Result<(), String> {
        if let Some(both) = line.strip_prefix("while ") {
            return self.both(both).await;
        }
        let (call, expected) = line.split_once(" -> ").unwrap_or((line, "ok"));
        let words: Vec<&str> = call.split_whitespace().collect();
        let outcome = match words[..] {
            ["send", name] => self.send(name).await,
            ["receive", ..] => self.receive(&words[1..]).await,
            ["delete", at] => outcome(self.queue.delete(&self.receipt(at)).await),
            ["visibility", at, seconds] => {
                let time = Duration::from_secs(seconds.parse().expect("seconds"));
                outcome(self.queue.set_visibility(&self.receipt(at), time).await)
            }
            ["dead"] => self.dead().await,
            ["depth", visible, in_flight, dead] => {
                return self.depth([visible, in_flight, dead]).await;
            }
            _ => panic!("not a step: {line}"),
        };
        compare(&outcome, expected)
    }

    /// The receive is polled first.
    async fn both(&mut self, line: &str) -> Result<(), String> {
        let (receive, send) = line.split_once(" : send ").expect("receive : send");
        let (call, expected) = receive.split_once(" -> ").expect("an expectation");
        let words: Vec<&str> = call.split_whitespace().collect();
        let (max, wait, visibility) = arguments(&words[1..]);
        let (received, sent) =
            tokio::join!(self.queue.receive(max, wait, visibility), self.queue.send(message(send)));
        let id = sent.map_err(|error| error.to_string())?;
        self.sent.insert(id, (send.to_owned(), message(send)));
        let outcome = self.note(received.map_err(|error| error.to_string())?)?;
        compare(&outcome, expected)
    }

    async fn send(&mut self, name: &str) -> String {
        match self.queue.send(message(name)).await {
            Ok(id) => {
                self.sent.insert(id, (name.to_owned(), message(name)));
                "ok".to_owned()
            }
            Err(error) => error.name.to_owned(),
        }
    }

    async fn receive(&mut self, words: &[&str]) -> String {
        let (max, wait, visibility) = arguments(words);
        match self.queue.receive(max, wait, visibility).await {
            Ok(messages) => self.note(messages).unwrap_or_else(|fault| fault),
            Err(error) => error.name.to_owned(),
        }
    }

    /// Compares with what was sent; `NAME@TIME …`.
    fn note(&mut self, messages: Vec<Received>) -> Result<String, String> {
        let mut names = Vec::new();
        for received in messages {
            let (name, sent) = self.sent.get(&received.id).ok_or("a message nobody sent")?;
            if received.body != sent.body
                || received.attributes != sent.attributes
                || received.group != sent.group
            {
                return Err(format!("{name} was changed on its way"));
            }
            if received.sent == UnixMillis(0) {
                return Err(format!("{name} has no time of sending"));
            }
            names.push(format!("{name}@{}", received.receives));
            self.receipts.insert(format!("{name}@{}", received.receives), received.receipt);
        }
        names.sort();
        Ok(if names.is_empty() { "nothing".to_owned() } else { names.join(" ") })
    }

    async fn dead(&self) -> String {
        let dead = self.queue.dead_letters().await.expect("the dead letters").expect("are set up");
        let mut names = Vec::new();
        let received = dead.receive(10, Duration::ZERO, Duration::from_secs(60)).await;
        for received in received.expect("received") {
            let (name, sent) = &self.sent[&received.id];
            assert_eq!(received.body, sent.body);
            dead.delete(&received.receipt).await.expect("deleted");
            names.push(name.clone());
        }
        if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
    }

    async fn depth(&self, expected: [&str; 3]) -> Result<(), String> {
        let depth = self.queue.depth().await.map_err(|error| error.to_string())?;
        let found = [depth.visible, depth.in_flight, depth.dead].map(|count| count.to_string());
        if found == expected { Ok(()) } else { Err(format!("the depth is {found:?}")) }
    }

    fn receipt(&self, at: &str) -> String {
        self.receipts.get(at).cloned().unwrap_or_else(|| "no-such-receipt".to_owned())
    }
}

fn outcome(result: Result<(), QueueError>) -> String {
    result.map_or_else(|error| error.name, |()| "ok").to_owned()
}

fn compare(outcome: &str, expected: &str) -> Result<(), String> {
    // Which ones come first is nobody's promise.
    let count = |text: &str| text.split(' ').filter(|word| word.contains('@')).count();
    let met = match expected.strip_suffix(" of them") {
        Some(number) => number.parse() == Ok(count(outcome)),
        None => outcome == expected,
    };
    if met { Ok(()) } else { Err(format!("outcome: {outcome}")) }
}

fn arguments(words: &[&str]) -> (usize, Duration, Duration) {
    let (mut max, mut wait, mut visibility) = (1, 0, 30);
    for word in words {
        let (name, value) = word.split_once('=').expect("NAME=VALUE");
        let value: u64 = value.trim_end_matches('s').parse().expect("a number");
        match name {
            "max" => max = usize::try_from(value).expect("small"),
            "wait" => wait = value,
            "visibility" => visibility = value,
            _ => panic!("not an argument: {word}"),
        }
    }
    (max, Duration::from_secs(wait), Duration::from_secs(visibility))
}

fn message(name: &str) -> Message {
    let attributes = |count: usize, value: &str| {
        (0..count).map(|at| (format!("attribute-{at}"), value.to_owned())).collect()
    };
    let (body, attributes) = match name {
        "unicode" => {
            ("zażółć \u{10FFFF} \u{FFFD}\t\r\n<&\"'>".to_owned(), attributes(10, "żółw 🐢"))
        }
        "big" => ("0123456789abcde\n".repeat(200 * 64), attributes(10, &"v".repeat(1024))),
        "empty" => (String::new(), attributes(0, "")),
        "control" => ("a\u{0}b".to_owned(), attributes(0, "")),
        "eleven-attributes" => ("b".to_owned(), attributes(11, "v")),
        "empty-attribute" => ("b".to_owned(), attributes(1, "")),
        "oversize" => ("x".repeat(1 << 20), attributes(1, "v")),
        name => (format!("body of {name}"), attributes(1, name)),
    };
    let group = name.strip_prefix("of-").map(str::to_owned);
    Message { body, attributes, group }
}
