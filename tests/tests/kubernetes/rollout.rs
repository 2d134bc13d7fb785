//! A deployment is rolled out under load, as Kubernetes does it: a pod's endpoint is taken away while
//! its preStop hooks already run, and proxies learn of it later. Nobody's request may fail.
//!
//! A pod is the real sidecar and the example application as two processes in a network namespace.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Answer, Client, Namespace, Network, PATIENCE, SECRET, eventually, folder, program};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const ROLLOUTS: usize = 20;
const PODS: usize = 2;
/// Between a change of the endpoints and the moment when those who connect know.
const LAG: Duration = Duration::from_millis(700);
/// The sidecar's `--drain-delay`, in seconds: longer than the lag.
const DRAIN_DELAY: &str = "1";
/// By how much the hook that is executed comes late, in turn: on a full node it takes seconds to start.
const LATE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];
/// After a restart of the application's container alone.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// `terminationGracePeriodSeconds`; who is not gone by then is killed.
const GRACE: Duration = Duration::from_secs(60);
/// Between the requests of one client.
const PAUSE: Duration = Duration::from_millis(15);

const RULES: &str = r#"
[[route]]
name = "prices"
match = { path = "/api/prices/{id}", methods = ["GET"] }
cache = { sidecar = "1s", ignore_cookies = true }
"#;

/// The addresses that connections go to, as kube-proxy knows them: late.
#[derive(Clone, Default)]
struct Endpoints(Arc<Mutex<Vec<IpAddr>>>);

impl Endpoints {
    fn any(&self, number: usize) -> SocketAddr {
        let all = self.0.lock().expect("no panic");
        SocketAddr::new(all[number % all.len()], 15080)
    }

    fn later(&self, change: impl FnOnce(&mut Vec<IpAddr>) + Send + 'static) {
        let this = self.clone();
        tokio::spawn(async move {
            sleep(LAG).await;
            change(&mut this.0.lock().expect("no panic"));
        });
    }
}

struct Pod {
    sidecar: Child,
    app: Child,
    data: PathBuf,
    // Dropped after the processes that are in it.
    network: Namespace,
}

impl Pod {
    /// As the kubelet starts it: the native sidecar, its startup probe, then the application.
    async fn start(network: &Network, rules: &Path, data: &Path) -> Self {
        let network = network.pod();
        let mut sidecar = network.command(program());
        sidecar
            .args(["proxy", "--listen=0.0.0.0:15080", "--admin=0.0.0.0:15081", "--threads=2"])
            .args(["--drain-delay", DRAIN_DELAY, "--routes"])
            .arg(rules)
            .env("SPILLWAY_SECRET", SECRET)
            .env("SPILLWAY_LOG", "warn");
        let sidecar = sidecar.spawn().expect("the sidecar starts");
        let app = Self::app(&network, data);
        let pod = Self { sidecar, app, data: data.to_owned(), network };
        pod.until_good(15081, "/startup").await;
        pod.until_good(15081, "/ready").await;
        pod.until_good(8080, "/healthz").await;
        pod
    }

    fn app(network: &Namespace, data: &Path) -> Child {
        let market = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/market");
        let mut app = network.command("python3");
        app.args(["-m", "market", "--host=0.0.0.0", "--port=8080", "--report-seconds=0.6", "--db"])
            .arg(data.join(format!("{}.db", network.address)))
            .current_dir(market)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        app.spawn().expect("python3 starts")
    }

    fn client(&self, port: u16) -> Client {
        Client::new(format!("http://{}", SocketAddr::new(self.network.address, port)))
    }

    async fn until_good(&self, port: u16, probe: &str) {
        eventually(probe, || async {
            let answer = self.client(port).try_send("GET", probe, "").await.ok();
            answer.filter(|answer| answer.status == 200)
        })
        .await;
    }

    /// The application's preStop hook, which the kubelet calls from outside of the pod.
    async fn apps_hook(&self) -> Answer {
        self.client(15081).get("/drained").await
    }

    /// The sidecar's, which is executed in its container.
    async fn own_hook(&self, late: Duration) -> Option<i32> {
        sleep(late).await;
        let mut hook = self.network.command(program());
        hook.args(["drain", "--admin=127.0.0.1:15081"]);
        hook.status().await.expect("the hook starts").code()
    }

    /// As the kubelet ends it: both preStop hooks at once, then the application, then the sidecar.
    async fn end(mut self, late: Duration) {
        let ended = timeout(GRACE, async {
            let (own, the_apps) = tokio::join!(self.own_hook(late), self.apps_hook());
            assert_eq!((own, the_apps.status), (Some(0), 200), "not drained");
            assert_eq!(the_apps.text(), "drained\n", "the hook did not wait for its drain");
            end(&mut self.app).await;
            end(&mut self.sidecar).await
        });
        let code = ended.await.expect("SIGKILL would have been needed");
        assert_eq!(code, Some(0));
    }
}

/// SIGTERM, and the exit code.
async fn end(process: &mut Child) -> Option<i32> {
    let id = process.id().expect("a running process").to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(sent.is_ok_and(|status| status.success()), "SIGTERM was not sent");
    process.wait().await.expect("a child").code()
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    answers: usize,
    connections: usize,
    failures: Vec<String>,
}

#[derive(Clone)]
struct Clients {
    endpoints: Endpoints,
    seen: Arc<Mutex<Seen>>,
}

/// How a client uses its connections.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    /// One for each request.
    None,
    /// For as long as the server leaves it open.
    Open,
}

impl Clients {
    /// Asks for ever.
    async fn ask(self, number: usize, keep: Keep, method: &'static str, target: &'static str) {
        let (mut turn, mut connection) = (number, None);
        loop {
            turn += 1;
            let address = self.endpoints.any(turn);
            let what = format!("{method} {target} of {address}");
            match self.exchange(connection.take(), address, method, target).await {
                Ok(open) => connection = open.filter(|_| keep == Keep::Open),
                Err(why) => {
                    self.seen.lock().expect("no panic").failures.push(format!("{what}: {why}"))
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// One request; the connection when it may be used again.
    async fn exchange(
        &self,
        kept: Option<SendRequest<Full<Bytes>>>,
        address: SocketAddr,
        method: &str,
        target: &str,
    ) -> Result<Option<SendRequest<Full<Bytes>>>, String> {
        // Closed in between is no failure: nothing was asked.
        let mut connection = match kept.filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => self.connect(address).await?,
        };
        let request = Request::builder().method(method).uri(target).header("host", "market");
        let request =
            request.header("x-user-id", "alice").header("content-type", "application/json");
        let body = if method == "POST" { "{}" } else { "" };
        let request = request.body(Full::from(body)).expect("a request");
        let answered = timeout(PATIENCE, async {
            let answer =
                connection.send_request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = answer.into_parts();
            body.collect().await.map_err(|error| format!("{error:?}"))?;
            Ok::<_, String>(head)
        });
        let head = answered.await.map_err(|_| "no answer".to_owned())??;
        if !head.status.is_success() {
            return Err(head.status.to_string());
        }
        self.seen.lock().expect("no panic").answers += 1;
        let is_last = head.headers.get("connection").is_some_and(|value| value == "close");
        Ok(Some(connection).filter(|_| !is_last))
    }

    async fn connect(&self, address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
        let connecting = timeout(PATIENCE, tokio::net::TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| "no connection".to_owned())?;
        let stream = stream.map_err(|error| error.to_string())?;
        self.seen.lock().expect("no panic").connections += 1;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

#[tokio::test]
async fn no_request_fails_in_twenty_rollouts_under_load() {
    let (network, files) = (Network::new(), folder());
    let rules = files.path().join("routes.toml");
    std::fs::write(&rules, RULES).expect("the rules");
    let endpoints = Endpoints::default();
    let mut pods = Vec::new();
    for _ in 0..PODS {
        let pod = Pod::start(&network, &rules, files.path()).await;
        endpoints.0.lock().expect("no panic").push(pod.network.address);
        pods.push(pod);
    }
    let clients = Clients { endpoints: endpoints.clone(), seen: Arc::default() };
    let mut load = JoinSet::new();
    for number in 0..4 {
        let own = || clients.clone();
        load.spawn(own().ask(number, Keep::Open, "GET", "/healthz"));
        load.spawn(own().ask(number, Keep::Open, "GET", "/api/prices/5"));
        load.spawn(own().ask(number, Keep::None, "GET", "/healthz"));
    }
    // In flight for most of the time.
    load.spawn(clients.clone().ask(0, Keep::Open, "POST", "/api/reports"));
    load.spawn(clients.clone().ask(1, Keep::None, "POST", "/api/reports"));
    let mut ending = JoinSet::new();
    for turn in 0..ROLLOUTS {
        let late = LATE[turn % LATE.len()];
        // maxSurge 1, maxUnavailable 0.
        for pod in &mut pods {
            let new = Pod::start(&network, &rules, files.path()).await;
            let address = new.network.address;
            endpoints.later(move |all| all.push(address));
            let old = std::mem::replace(pod, new);
            let address = old.network.address;
            endpoints.later(move |all| all.retain(|one| *one != address));
            ending.spawn(old.end(late));
        }
    }
    while let Some(ended) = ending.join_next().await {
        ended.expect("a pod ends as it should");
    }
    load.shutdown().await;
    let seen = std::mem::take(&mut *clients.seen.lock().expect("no panic"));
    eprintln!("{} answers over {} connections", seen.answers, seen.connections);
    assert!(seen.answers > 100 * ROLLOUTS, "only {} answers", seen.answers);
    let count = seen.failures.len();
    let first: Vec<_> = seen.failures.iter().take(10).collect();
    assert!(count == 0, "{count} of {} failed: {first:#?}", count + seen.answers);
}

#[tokio::test]
async fn a_restart_of_the_applications_container_costs_nothing_but_itself() {
    let (network, files) = (Network::new(), folder());
    let rules = files.path().join("routes.toml");
    std::fs::write(&rules, RULES).expect("the rules");
    let mut pod = Pod::start(&network, &rules, files.path()).await;
    // As the kubelet does for a liveness failure: its hook, SIGTERM, a new one.
    let hook = pod.apps_hook().await;
    assert_eq!((hook.status, hook.text().as_str()), (200, "there is no drain\n"));
    end(&mut pod.app).await;
    pod.app = Pod::app(&pod.network, &pod.data);
    let back = timeout(BACK_WITHIN, pod.until_good(15080, "/healthz"));
    back.await.expect("the pod serves again");
    assert_eq!(pod.client(15081).get("/ready").await.status, 200);
}

#[tokio::test]
async fn nobody_but_the_pod_itself_begins_its_drain() {
    let (network, files) = (Network::new(), folder());
    let rules = files.path().join("routes.toml");
    std::fs::write(&rules, RULES).expect("the rules");
    let pod = Pod::start(&network, &rules, files.path()).await;
    // From the node, which is another address than the pod's loopback.
    let admin = pod.client(15081).with("content-type", "application/json");
    let asked = admin.with("x-spillway-admin", "1");
    assert_eq!(admin.get("/drain").await.status, 403);
    assert_eq!(asked.post("/drain", "{}").await.status, 403);
    assert_eq!(asked.post("/purge", "{\"all\": true}").await.status, 401);
    assert_eq!(pod.apps_hook().await.text(), "there is no drain\n");
    assert_eq!(pod.client(15081).get("/ready").await.status, 200);
    pod.until_good(15080, "/healthz").await;
    assert_eq!(pod.own_hook(Duration::ZERO).await, Some(0));
    assert_eq!(pod.client(15081).get("/ready").await.status, 503);
}
