//! Spans as a collector gets them, decoded from what it was sent.

use serde_json::Value;
use support::{App, Gate, Reply, Spillway, eventually, folder};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const RULES: &str = r#"
[[route]]
name  = "prices"
match = { path = "/prices/{id}" }
cache = { sidecar = "1m" }

[[route]]
name    = "reports"
match   = { path = "/reports", methods = ["POST"] }
offload = { queue = "q", when = "always", auth = "none" }

[queue.q]
"#;

async fn app() -> App {
    let app = App::start().await;
    for path in ["/prices/1", "/reports"] {
        app.on(path, Reply::ok("answered"));
    }
    app
}

/// All spans that the collector was sent, each with the name of its service.
fn spans(collector: &App) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for asked in collector.asked("/v1/traces") {
        assert_eq!(asked.header("content-type"), Some("application/json"));
        let sent: Value = serde_json::from_slice(&asked.body).expect("JSON");
        for resource in sent["resourceSpans"].as_array().expect("resources") {
            let service = attribute(&resource["resource"], "service.name");
            for span in resource["scopeSpans"][0]["spans"].as_array().expect("spans") {
                found.push((service.clone(), span.clone()));
            }
        }
    }
    found
}

fn attribute(of: &Value, key: &str) -> String {
    let attributes = of["attributes"].as_array().expect("attributes");
    let found = attributes.iter().find(|one| one["key"] == key);
    let value = found.map_or(&Value::Null, |one| &one["value"]);
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_and_its_job_are_spans_of_one_trace() {
    let (app, collector, folder) = (app().await, App::start().await, folder());
    collector.on("/v1/traces", Reply::ok("{}"));
    let sidecar = Spillway::proxy(RULES, &app).jobs("q", folder.path());
    let sidecar = sidecar.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()).start().await;
    let consumer = Spillway::consume(RULES, &app).jobs("q", folder.path());
    let consumer = consumer
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("{}/", collector.url()))
        .env("OTEL_SERVICE_NAME", "market-consumer");
    let consumer = consumer.start().await;
    let client = sidecar.client();
    let traced = client.with("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01"));
    assert_eq!(traced.post("/reports", "a report").await.status, 202);
    traced.get("/prices/1").await;
    traced.get("/prices//1").await;
    let unsampled = format!("00-{}-00f067aa0ba902b7-00", TRACE.replace('4', "5"));
    client.with("traceparent", &unsampled).get("/prices/1").await;
    consumer.until_said("job finished").await;
    for process in [sidecar, consumer] {
        process.terminate().await;
        assert_eq!(process.ended().await, Some(0));
    }
    let spans = spans(&collector);
    let named = |name: &str| {
        let found = spans.iter().find(|(_, span)| span["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {spans:?}")).clone()
    };
    assert_eq!(spans.iter().filter(|(_, span)| span["traceId"] == TRACE).count(), 4);
    assert_eq!(spans.len(), 4, "what nobody records is not sent");
    let (service, price) = named("GET prices");
    assert_eq!((service.as_str(), &price["kind"]), ("spillway", &2.into()));
    assert_eq!(price["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(attribute(&price, "http.response.status_code"), "200");
    assert!(attribute(&price, "spillway.cache").starts_with("fwd=uri-miss"));
    let time = |key: &str| price[key].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    assert_eq!(attribute(&named("GET unmatched").1, "spillway.problem"), "path-ambiguous");
    let jobs: Vec<_> = spans.iter().filter(|(_, span)| span["name"] == "POST reports").collect();
    let (asked, ran) = match jobs.as_slice() {
        [one, two] if one.0 == "spillway" => (&one.1, two),
        [one, two] => (&two.1, one),
        _ => panic!("{jobs:?}"),
    };
    assert_eq!((ran.0.as_str(), &ran.1["kind"]), ("market-consumer", &5.into()));
    assert_eq!(ran.1["parentSpanId"], asked["spanId"]);
    let context = app.asked("/reports").remove(0).header("traceparent").map(str::to_owned);
    let own = ran.1["spanId"].as_str().expect("an id");
    assert_eq!(context, Some(format!("00-{TRACE}-{own}-01")));
}

#[tokio::test]
async fn a_collector_that_does_not_answer_costs_spans_and_nothing_else() {
    let (app, collector, folder) = (app().await, App::start().await, folder());
    let gate = Gate::default();
    collector.on("/v1/traces", Reply::ok("{}").behind(&gate));
    let sidecar = Spillway::proxy(RULES, &app).jobs("q", folder.path());
    let sidecar = sidecar.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()).start().await;
    let lost = "spillway_spans_total{result=\"queue-full\"}";
    eventually("the queue is full", || async {
        for _ in 0..500 {
            assert_eq!(sidecar.client().get("/prices/1").await.status, 200);
        }
        (sidecar.metric(lost).await > 0.0).then_some(())
    })
    .await;
    gate.open();
    eventually("what waited is sent", || async {
        (sidecar.metric("spillway_spans_total{result=\"sent\"}").await > 0.0).then_some(())
    })
    .await;
    collector.on("/v1/traces", Reply::status(503));
    sidecar.client().get("/prices/1").await;
    eventually("a refusal is counted", || async {
        (sidecar.metric("spillway_spans_total{result=\"failed\"}").await > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_that_is_none_stops_the_start() {
    let app = app().await;
    let setup = Spillway::proxy("", &app).env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
    let ended = setup.refused().await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{}", ended.errors);
}
