//! A request's fields on their way to the app: whatever a client writes, the app hears from one
//! sender only, of one connection only, and nothing that is Spillway's to say.

use crate::message::Lines;
use arbitrary::{Result, Unstructured};
use rules::Fields;
use rules::head::joined;
use rules::head::{FieldsMut, Rebuilt};
use rules::hygiene::{self, AsSent, Sender};
use rules::trust::{self, Trust};

const NAMES: [&str; 25] = [
    "connection",
    "connection",
    "upgrade",
    "te",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-real-ip",
    "x-forwarded-user",
    "client-cert",
    "x-original-url",
    "x-shard",
    "x-job-id",
    "x_job_id",
    "x-http-method-override",
    "http2-settings",
    "cookie",
    "x-a",
];
const OPTIONS: [&str; 10] = [
    "close",
    "Upgrade",
    "X-A",
    "cookie",
    "x-a , te",
    "content-length",
    "",
    ",,",
    "transfer-encoding",
    "host",
];
const VALUES: [&str; 7] =
    ["websocket", "WebSocket", "h2c", "websocket, h2c", "1.1.1.1", " ", "https"];

const TRUSTS: [Trust; 4] = [
    Trust::Nobody,
    Trust::Network,
    Trust::Named { by_forwarded: false },
    Trust::Named { by_forwarded: true },
];

impl FieldsMut for Lines {
    fn remove_where(&mut self, is_unwanted: &dyn Fn(&str) -> bool) {
        self.0.retain(|(name, _)| !is_unwanted(name));
    }

    fn set(&mut self, field: Rebuilt, value: &str) {
        self.0.retain(|(own, _)| own != field.name());
        self.0.push((field.name().to_owned(), value.as_bytes().to_vec()));
    }
}

fn draw(drawn: &mut Unstructured<'_>) -> Result<Lines> {
    let mut fields = Lines::default();
    for _ in 0..drawn.int_in_range(0..=8)? {
        let name = *drawn.choose(&NAMES)?;
        let value = match (name, drawn.ratio(1, 8)?) {
            (_, true) => crate::message::raw(drawn)?,
            ("connection", false) => {
                let options = [*drawn.choose(&OPTIONS)?, *drawn.choose(&OPTIONS)?];
                options.join(", ").into_bytes()
            }
            _ => drawn.choose(&VALUES)?.as_bytes().to_vec(),
        };
        fields.0.push((name.to_owned(), value));
    }
    Ok(fields)
}

pub fn run(data: &[u8]) {
    // Bytes that have run out draw nothing more.
    let _ = hold(&mut Unstructured::new(data));
}

fn hold(drawn: &mut Unstructured<'_>) -> Result<()> {
    let asked = draw(drawn)?;
    let method = *drawn.choose(&["GET", "POST"])?;
    let sender = Sender {
        address: "9.9.9.9",
        host: "h",
        scheme: if drawn.arbitrary()? { "https" } else { "http" },
        trust: *drawn.choose(&TRUSTS)?,
    };
    let named = hygiene::named_by_connection(&asked);
    let mut fields = asked.clone();
    let is_upgrade = hygiene::on_arrival(method, &mut fields, sender.trust, &|_| {});
    assert!(!is_upgrade || method == "GET", "{asked:?}");
    for (name, value) in &fields.0 {
        assert!(
            trust::why_removed(name, sender.trust).is_none() && !named.contains(name),
            "{name} was left of {asked:?}"
        );
        let is_offer = is_upgrade && value.eq_ignore_ascii_case(b"websocket");
        assert!(name != "upgrade" || is_offer, "another protocol was left of {asked:?}");
    }
    // What frames the message is still as it was when the body's end was decided.
    for name in ["content-length", "transfer-encoding"] {
        assert_eq!(joined(&fields, name), joined(&asked, name));
    }
    is_ready(&asked, fields, &sender);
    Ok(())
}

fn values(fields: &dyn Fields, name: &str) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    fields.each(name, &mut |value| values.push(value.to_vec()));
    values
}

fn is_ready(asked: &Lines, mut fields: Lines, sender: &Sender<'_>) {
    let before = fields.clone();
    hygiene::before_sending(&mut fields, sender);
    for (name, _) in &fields.0 {
        assert!(!hygiene::is_hop_by_hop(name), "{name} was left of {asked:?}");
    }
    let as_sent = AsSent { fields: &before, sender: *sender };
    for name in NAMES {
        assert_eq!(values(&as_sent, name), values(&fields, name), "{name} of {before:?}");
    }
    let lines = |name| fields.0.iter().filter(|(own, _)| own == name).count();
    assert_eq!(lines("x-forwarded-for"), 1, "{asked:?}");
    let chain = joined(&fields, "x-forwarded-for").unwrap_or_default();
    let by_forwarded = sender.trust == Trust::Named { by_forwarded: true };
    assert!(by_forwarded || lines("forwarded") == 0, "{asked:?}");
    if sender.trust.is_some() {
        assert!(chain.ends_with(sender.address), "{chain} of {asked:?}");
        assert!(lines("x-forwarded-proto") > 0 && lines("x-forwarded-host") > 0, "{asked:?}");
    } else {
        assert_eq!(chain, sender.address);
        assert_eq!(joined(&fields, "x-forwarded-host").as_deref(), Some(sender.host));
        assert_eq!((lines("x-forwarded-proto"), lines("x-real-ip")), (1, 0), "{asked:?}");
    }
    if !matches!(sender.trust, Trust::Named { .. }) {
        assert_eq!(lines("x-forwarded-user") + lines("client-cert"), 0, "{asked:?}");
    }
    // What is none of these passes as it came, in its order.
    for name in ["cookie", "x-a"] {
        assert_eq!(joined(&fields, name), joined(&before, name));
    }
    let mut again = fields.clone();
    let trust = Trust::Named { by_forwarded: true };
    hygiene::on_arrival("GET", &mut again, trust, &|_| {});
    hygiene::remove_hop_by_hop(&mut again);
    assert_eq!(again.0, fields.0, "clean fields were changed");
}
