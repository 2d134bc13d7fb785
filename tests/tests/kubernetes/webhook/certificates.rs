//! Certificates: made, shared, rotated, mended, and never served outside their time.

use super::{NAME, SECRET, bundle, cluster, connected, decoded, pod, ready, review, reviewed};
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::{Kube, Spillway, eventually, folder, python, trusting};

#[tokio::test]
async fn two_replicas_share_one_ca_and_rotate_it_without_a_failed_handshake() {
    let kube = cluster().await;
    let start = || Spillway::webhook(kube.url()).with("--certificate-lifetime", "30").start();
    let (first, second) = tokio::join!(start(), start());
    ready(&first).await;
    ready(&second).await;
    let begin = bundle(&kube).await;
    let until = Instant::now() + Duration::from_secs(34);
    let mut count = 0;
    while Instant::now() < until {
        for webhook in [&first, &second] {
            // As an API server: with the bundle that the configuration has at this moment.
            let mut reviews = connected(webhook, &kube).await;
            let response = reviewed(&mut reviews, &review(&pod(json!({})))).await;
            assert!(response["patch"].is_string());
            count += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(count > 100, "only {count} handshakes");
    assert!(trusting(first.address(), &begin, NAME).await.is_err(), "the first CA has expired");
    let secret = kube.get(SECRET).expect("the Secret");
    assert!(secret["data"]["previous-ca.crt"].is_string(), "rotated: {secret}");
}

#[tokio::test]
async fn an_empty_secret_is_filled_and_keeps_its_labels() {
    let kube = cluster().await;
    let labels = json!({ "app.kubernetes.io/managed-by": "Helm" });
    kube.put(
        SECRET,
        json!({ "metadata": { "name": "made-by-helm", "labels": labels }, "type": "Opaque" }),
    );
    let webhook = Spillway::webhook(kube.url()).start().await;
    ready(&webhook).await;
    let secret = kube.get(SECRET).expect("the Secret");
    assert_eq!(secret["metadata"]["labels"], labels);
    assert!(secret["data"]["tls.crt"].is_string(), "{secret}");
}

#[tokio::test]
async fn a_folder_of_certificates_is_served_and_the_configuration_left_alone() {
    let kube = cluster().await;
    // Made by another webhook's own CA, put down as cert-manager would.
    let maker = Spillway::webhook(kube.url()).start().await;
    ready(&maker).await;
    let secret = kube.get(SECRET).expect("the Secret");
    let files = folder();
    for name in ["tls.crt", "tls.key"] {
        let text = decoded(secret["data"][name].as_str().expect("a field"));
        std::fs::write(files.path().join(name), text).expect("a file");
    }
    let other = Kube::start().await;
    let webhook = Spillway::webhook(other.url())
        .with("--tls-dir", &files.path().display().to_string())
        .start()
        .await;
    ready(&webhook).await;
    let mut reviews = connected(&webhook, &kube).await;
    assert!(reviewed(&mut reviews, &review(&pod(json!({})))).await["patch"].is_string());
    assert!(other.below("/").is_empty(), "nothing was written: {:?}", other.below("/"));
}

/// A certificate for the webhook's name, valid from and until so many days from now, and its key.
async fn certificate(from: i32, until: i32) -> (String, String) {
    let lines = format!(
        r#"
import datetime
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "{NAME}")])
now = datetime.datetime.now(datetime.timezone.utc)
made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(),
    now + datetime.timedelta(days={from}), now + datetime.timedelta(days={until}))
made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("{NAME}")]), False)
print(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode())
print(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption()).decode())
"#
    );
    let both = python(&lines, &[]).await;
    let key = both.find("-----BEGIN PRIVATE").expect("a key");
    (both[..key].to_owned(), both[key..].to_owned())
}

#[tokio::test]
async fn a_secret_that_nobody_can_use_is_made_anew() {
    use base64::Engine as _;
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let (ahead, key) = certificate(400, 490).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let made_at = (now.as_secs() + 400 * 24 * 3600).to_string();
    let from_the_future = json!({
        "ca.crt": encoded(&ahead), "tls.crt": encoded(&ahead), "tls.key": encoded(&key),
        "made-at": encoded(&made_at),
    });
    let broken =
        json!({ "ca.crt": "", "tls.crt": encoded(&ahead[..200]), "tls.key": encoded(&key) });
    for data in [from_the_future, broken] {
        let kube = cluster().await;
        kube.put(SECRET, json!({ "metadata": { "name": "s" }, "type": "Opaque", "data": data }));
        let webhook = Spillway::webhook(kube.url()).start().await;
        ready(&webhook).await;
        let mut reviews = connected(&webhook, &kube).await;
        assert!(reviewed(&mut reviews, &review(&pod(json!({})))).await["patch"].is_string());
        let secret = kube.get(SECRET).expect("the Secret");
        assert!(secret["data"]["replaced-at"].is_string(), "{secret}");
        let expiry = webhook.metric("spillway_webhook_certificate_expiry_timestamp_seconds").await;
        let days = (expiry - now.as_secs_f64()) / 86_400.0;
        assert!((89.0..91.0).contains(&days), "{days} days");
    }
}

#[tokio::test]
async fn a_clock_that_the_api_server_does_not_share_issues_nothing_and_is_not_ready() {
    let kube = cluster().await;
    kube.set_clock_ahead(400 * 24 * 3600);
    let webhook = Spillway::webhook(kube.url()).start().await;
    webhook.until_said("ahead of the API server's").await;
    assert_eq!(webhook.admin().get("/ready").await.status, 503);
    assert!(kube.get(SECRET).is_none(), "nothing was issued");
    let offset = webhook.metric("spillway_webhook_clock_offset_seconds").await;
    assert!((offset + 400.0 * 86_400.0).abs() < 5.0, "{offset}");
    // Two clocks that differ by less are at one about the API server's.
    kube.set_clock_ahead(200);
    ready(&webhook).await;
    let made_at = kube.get(SECRET).expect("the Secret")["data"]["made-at"].clone();
    let made_at: u64 = decoded(made_at.as_str().expect("a time")).parse().expect("a number");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    assert!((100..=300).contains(&made_at.saturating_sub(now.as_secs())), "by the API server's");
}

#[tokio::test]
async fn a_secret_that_is_deleted_is_told_and_filled_when_it_is_there_again() {
    let kube = cluster().await;
    let webhook = Spillway::webhook(kube.url()).with("--certificate-lifetime", "600").start().await;
    ready(&webhook).await;
    kube.create_no_secrets();
    kube.remove(SECRET);
    let missing = "spillway_webhook_secret_missing";
    eventually("it is missed", || async { (webhook.metric(missing).await == 1.0).then_some(()) })
        .await;
    let event = eventually("an event", || async {
        kube.below("/api/v1/namespaces/spillway/events/").pop()
    })
    .await;
    assert_eq!(event["reason"], "SecretMissing");
    assert!(event["message"].as_str().expect("a text").contains("helm upgrade"), "{event}");
    let mut reviews = connected(&webhook, &kube).await;
    assert!(reviewed(&mut reviews, &review(&pod(json!({})))).await["patch"].is_string());
    kube.put(SECRET, json!({ "metadata": { "name": "made-by-helm" }, "type": "Opaque" }));
    eventually("it is filled", || async {
        let secret = kube.get(SECRET)?;
        (secret["data"]["tls.crt"].is_string() && webhook.metric(missing).await == 0.0)
            .then_some(())
    })
    .await;
    let told = webhook.said().matches("the webhook's certificates are not in order").count();
    assert!(told <= 2, "one kind of failure is told once, not {told} times");
}

#[tokio::test]
async fn files_outside_their_time_are_served_to_nobody_as_ready() {
    for (from, until) in [(-90, -1), (10, 90)] {
        let (certificate, key) = certificate(from, until).await;
        let files = folder();
        std::fs::write(files.path().join("tls.crt"), certificate).expect("a file");
        std::fs::write(files.path().join("tls.key"), key).expect("a file");
        let kube = Kube::start().await;
        let webhook = Spillway::webhook(kube.url())
            .with("--tls-dir", &files.path().display().to_string())
            .start()
            .await;
        eventually("it says why", || async {
            let ready = webhook.admin().get("/ready").await;
            (ready.status == 503 && ready.text().contains("valid from")).then_some(())
        })
        .await;
    }
}
