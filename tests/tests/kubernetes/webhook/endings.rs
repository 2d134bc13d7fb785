//! How a replica goes: reviews on connections that API servers keep are answered to the last.

use super::{NAME, bundle, cluster, connected, pod, ready, review, reviewed};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Kube, Reviews, Spillway, eventually, trusting};

#[tokio::test]
async fn after_sigterm_it_is_not_ready_and_still_answers() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).with("--grace", "3").start().await;
    ready(&webhook).await;
    let mut kept = connected(&webhook, &kube).await;
    let mut idle = connected(&webhook, &kube).await;
    for reviews in [&mut kept, &mut idle] {
        reviewed(reviews, &review(&pod(json!({})))).await;
        assert!(reviews.is_open());
    }
    webhook.terminate().await;
    let admin = webhook.admin();
    eventually("not ready", || async { (admin.get("/ready").await.status == 503).then_some(()) })
        .await;
    // Each answer is the last of its connection, be it from before or new.
    for mut reviews in [kept, connected(&webhook, &kube).await] {
        assert!(reviewed(&mut reviews, &review(&pod(json!({})))).await["patch"].is_string());
        eventually("it is closed", || async { (!reviews.is_open()).then_some(()) }).await;
    }
    assert!(idle.is_open(), "nothing was asked on it");
    assert!(reviewed(&mut idle, &review(&pod(json!({})))).await["patch"].is_string());
    assert_eq!(webhook.ended().await, Some(0));
}

/// A client as an API server is one: it keeps its connections, uses them at any moment, and opens others
/// only where the endpoints say.
struct ApiServer {
    kept: BTreeMap<String, Reviews>,
}

impl ApiServer {
    async fn create(&mut self, kube: &Kube, endpoints: &[String], turn: usize) {
        self.kept.retain(|_, reviews| reviews.is_open());
        let known = self.kept.keys().nth(turn % self.kept.len().max(1)).cloned();
        // One that it has already, be its pod among the endpoints or no longer.
        let address = match known.filter(|_| !turn.is_multiple_of(3)) {
            Some(address) => address,
            None => endpoints[turn % endpoints.len()].clone(),
        };
        if !self.kept.contains_key(&address) {
            let stream = trusting(&address, &bundle(kube).await, NAME).await;
            let reviews = Reviews::over(stream.expect("an endpoint answers")).await;
            self.kept.insert(address.clone(), reviews);
        }
        let reviews = self.kept.get_mut(&address).expect("a connection");
        assert!(reviewed(reviews, &review(&pod(json!({})))).await["patch"].is_string());
    }
}

#[tokio::test]
async fn ten_rollouts_under_a_loop_of_creates_lose_no_sidecar() {
    let kube = cluster().await;
    // Every wait is a sixth of what it is by default.
    let start = || async {
        let webhook = Spillway::webhook(kube.url()).with("--grace", "5").quiet().start().await;
        ready(&webhook).await;
        webhook
    };
    let endpoints = Arc::new(Mutex::new(Vec::new()));
    let mut serving = start().await;
    endpoints.lock().expect("no panic").push(serving.address().to_owned());
    let is_over = Arc::new(AtomicBool::new(false));
    let creating = tokio::spawn({
        let (kube, endpoints, is_over) =
            (kube.clone(), Arc::clone(&endpoints), Arc::clone(&is_over));
        async move {
            let mut server = ApiServer { kept: BTreeMap::new() };
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let known = endpoints.lock().expect("no panic").clone();
                server.create(&kube, &known, count).await;
                count += 1;
                // From none to a tenth of a second, in no order.
                let pause = count * 7919 % 97;
                tokio::time::sleep(Duration::from_millis(pause as u64)).await;
            }
            count
        }
    });
    let mut leaving = Vec::new();
    for _ in 0..10 {
        let next = start().await;
        endpoints.lock().expect("no panic").push(next.address().to_owned());
        let old = std::mem::replace(&mut serving, next);
        old.terminate().await;
        // API servers learn of it one after the other.
        tokio::time::sleep(Duration::from_millis(700)).await;
        endpoints.lock().expect("no panic").retain(|address| address != old.address());
        leaving.push(tokio::spawn(old.ended()));
    }
    for ended in leaving {
        assert_eq!(ended.await.expect("no panic"), Some(0));
    }
    is_over.store(true, Ordering::Relaxed);
    let count = creating.await.expect("every create has its sidecar");
    assert!(count > 50, "only {count} creates");
}
