//! Rules change under load, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::{App, Reply, Spillway, eventually};

fn rules(number: usize) -> String {
    format!("[[route]]\nname = \"r{number}\"\nmatch = {{ path = \"/x\" }}\n")
}

#[tokio::test]
async fn no_request_fails_while_the_rules_change() {
    let app = App::start().await;
    app.on("/x", Reply::ok("x"));
    let sidecar = Spillway::proxy(&rules(0), &app).start().await;
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (client, is_over, answered) =
                (sidecar.client(), Arc::clone(&is_over), Arc::clone(&answered));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/x").await.status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 1..=3 {
        sidecar.change_rules(&rules(number));
        let series = format!(r#"spillway_http_requests_total{{code="2xx",route="r{number}"}}"#);
        eventually("the new rules are in force", || async {
            (sidecar.metric(&series).await > 0.0).then_some(())
        })
        .await;
    }
    is_over.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.expect("every answer was good");
    }
    assert!(answered.load(Ordering::Relaxed) > 100);
}
