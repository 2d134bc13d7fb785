//! TLS at both ends: what is served, and who is believed.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{App, Reply, Spillway, curl, eventually, folder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName,
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority, and certificates for 127.0.0.1.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// As a mounted Secret has them.
    fn write(&self, folder: &Path) {
        let (certificate, key) = self.leaf();
        std::fs::write(folder.join("tls.crt"), certificate.pem()).expect("written");
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).expect("written");
    }
}

#[tokio::test]
async fn tls_is_spoken_with_either_version_and_a_changed_certificate_is_taken() {
    let app = App::start().await;
    app.answer("/", |asked| Reply::ok(asked.header("x-forwarded-proto").unwrap_or("").to_owned()));
    let (before, after, files) = (Authority::new(), Authority::new(), folder());
    before.write(files.path());
    let (old, new) = (files.path().join("old.pem"), files.path().join("new.pem"));
    std::fs::write(&old, &before.pem).expect("written");
    std::fs::write(&new, &after.pem).expect("written");
    let tls_dir = files.path().display().to_string();
    let sidecar = Spillway::proxy("", &app).with("--tls-dir", &tls_dir).start().await;
    let url = format!("https://{}/", sidecar.address());
    let ask = |authority: &Path, version: &'static str| {
        let (url, authority) = (url.clone(), authority.display().to_string());
        async move {
            let print = ["--write-out", " %{http_version}"];
            curl(&[&["--cacert", &authority, version], &print[..], &[&url]].concat()).await
        }
    };
    assert_eq!(ask(&old, "--http2").await, "https 2");
    assert_eq!(ask(&old, "--http1.1").await, "https 1.1");
    // A certificate whose key is not there yet is not served.
    let (certificate, _) = after.leaf();
    std::fs::write(files.path().join("tls.crt"), certificate.pem()).expect("written");
    let refused = r#"spillway_certificate_reloads_total{result="failure"}"#;
    eventually("the half of a change is refused", || async {
        (sidecar.metric(refused).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(ask(&old, "--http2").await, "https 2");
    after.write(files.path());
    eventually("the new certificate is served", || async {
        (ask(&new, "--http2").await == "https 2").then_some(())
    })
    .await;
}

/// Asks until it is over, on one connection or on a new one each time; how often.
async fn ask_on(
    address: String,
    connector: TlsConnector,
    is_kept: bool,
    is_over: Arc<AtomicBool>,
) -> usize {
    let (mut asked, mut kept) = (0, None);
    while !is_over.load(Ordering::Relaxed) {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&address).await.expect("listens");
                let name = ServerName::try_from("127.0.0.1").expect("a name");
                connector.connect(name, stream).await.expect("a certificate that is believed")
            }
        };
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).await.expect("an answer");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", answer[..read].escape_ascii());
        asked += 1;
        kept = is_kept.then_some(stream);
    }
    asked
}

#[tokio::test]
async fn no_request_fails_while_the_certificate_changes() {
    let app = App::start().await;
    app.on("/", Reply::ok(""));
    let (authority, files) = (Authority::new(), folder());
    authority.write(files.path());
    let tls_dir = files.path().display().to_string();
    let sidecar = Spillway::proxy("", &app).with("--tls-dir", &tls_dir).start().await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("one");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let is_over = Arc::new(AtomicBool::new(false));
    let askers = [true, true, false, false].map(|is_kept| {
        let address = sidecar.address().to_owned();
        tokio::spawn(ask_on(address, connector.clone(), is_kept, Arc::clone(&is_over)))
    });
    let taken = r#"spillway_certificate_reloads_total{result="success"}"#;
    for count in 1..=3 {
        authority.write(files.path());
        eventually("the certificate is taken", || async {
            (sidecar.metric(taken).await >= f64::from(count)).then_some(())
        })
        .await;
    }
    is_over.store(true, Ordering::Relaxed);
    for asker in askers {
        assert!(asker.await.expect("every answer was good") > 0);
    }
}

/// An app behind TLS with this certificate; its address.
async fn behind_tls(certificate: CertificateDer<'static>, key: &KeyPair) -> String {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a certificate with its key")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(|_| async {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("over TLS"))))
                });
                let served = hyper::server::conn::http1::Builder::new();
                // A client that leaves is no fault of the test.
                let _ = served.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    format!("https://{address}")
}

/// What comes of asking that app by a sidecar that believes this certificate.
async fn asked_with(app: &str, pem: &str) -> (u16, String) {
    let files = folder();
    let file = files.path().join("ca.pem");
    std::fs::write(&file, pem).expect("written");
    let file = file.display().to_string();
    let sidecar = Spillway::proxy_to("", app).with("--upstream-ca", &file).start().await;
    let answer = sidecar.client().get("/").await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn an_app_behind_tls_must_be_certified_by_whom_we_believe() {
    let authority = Authority::new();
    let (certificate, key) = authority.leaf();
    let app = behind_tls(certificate.into(), &key).await;
    assert_eq!(asked_with(&app, &authority.pem).await, (200, "over TLS".to_owned()));
    let doubting = Spillway::proxy_to("", &app).start().await;
    let refused = doubting.client().get("/").await;
    assert_eq!((refused.status, refused.problem().as_str()), (502, "upstream-unreachable"));
}

/// A certificate that nobody else has signed, for that name and until then.
fn self_signed(name: &str, is_ca: IsCa, until: i32) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.is_ca = is_ca;
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate"), key)
}

#[tokio::test]
async fn the_apps_own_certificate_may_be_given_as_authority() {
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // As `openssl req -x509` makes it, which says that it is an authority; and as others do.
    for is_ca in [ca, IsCa::NoCa, IsCa::ExplicitNoCa] {
        let (certificate, key) = self_signed("127.0.0.1", is_ca, 4000);
        let (pem, app) = (certificate.pem(), behind_tls(certificate.into(), &key).await);
        assert_eq!(asked_with(&app, &pem).await, (200, "over TLS".to_owned()), "{is_ca:?}");
    }
    // One that another has signed, and that is given alone.
    let (certificate, key) = Authority::new().leaf();
    let (pem, app) = (certificate.pem(), behind_tls(certificate.into(), &key).await);
    assert_eq!(asked_with(&app, &pem).await.0, 200);
    // It must be that very one, for this name, and not over.
    let (other, _) = self_signed("127.0.0.1", ca, 4000);
    let (certificate, key) = self_signed("127.0.0.1", ca, 4000);
    let app = behind_tls(certificate.into(), &key).await;
    assert_eq!(asked_with(&app, &other.pem()).await.0, 502);
    for (name, until) in [("shop.example", 4000), ("127.0.0.1", 2001)] {
        let (certificate, key) = self_signed(name, ca, until);
        let (pem, app) = (certificate.pem(), behind_tls(certificate.into(), &key).await);
        assert_eq!(asked_with(&app, &pem).await.0, 502, "{name} {until}");
    }
}

#[tokio::test]
async fn a_key_that_can_not_be_served_is_named() {
    let app = App::start().await;
    let make = |command: &str, folder: &Path| {
        let made = std::process::Command::new("openssl")
            .args(command.split(' '))
            .current_dir(folder)
            .output()
            .expect("openssl is installed: apt install openssl");
        assert!(made.status.success(), "{command}: {}", String::from_utf8_lossy(&made.stderr));
    };
    for (key, named) in [
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out tls.key", "P-521"),
        ("ecparam -name secp521r1 -genkey -noout -out tls.key", "secp521r1"),
        ("ecparam -name secp256k1 -genkey -noout -out tls.key", "secp256k1"),
        ("genpkey -algorithm ED448 -out tls.key", "Ed448"),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:x -out tls.key",
            "encrypted",
        ),
    ] {
        let files = folder();
        make(key, files.path());
        let request =
            "req -x509 -new -key tls.key -out tls.crt -days 2 -subj /CN=localhost -passin pass:x";
        make(request, files.path());
        let given = files.path().display().to_string();
        let ended = Spillway::proxy("", &app).with("--tls-dir", &given).refused().await;
        assert_eq!(ended.code, Some(78), "{key}");
        assert!(ended.errors.contains(named), "{key}: {}", ended.errors);
    }
}
