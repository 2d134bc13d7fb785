//! SQS and S3 in memory, in the test's own process: quick enough to be a load peer, and able to
//! fail in every way that the real ones do and emulators never. moto and the others judge whether
//! the protocol is right ([`crate::Emulator`]); this one is for what happens when it goes wrong.

mod faults;
mod s3;
mod sqs;

pub use faults::{Fault, Faults};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// What every AWS client of the tests is told.
pub(crate) const CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "eu-west-1")];

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

type Answered = Response<Full<Bytes>>;

fn answered(status: u16, body: impl Into<Bytes>) -> Answered {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}

struct Services {
    sqs: sqs::Sqs,
    s3: s3::S3,
}

/// Both services, each at an address of its own so that each can be gone alone; either address
/// answers for both.
pub struct Cloud {
    services: Arc<Services>,
    sqs: SocketAddr,
    s3: SocketAddr,
    doors: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.doors.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Cloud {
    pub async fn start() -> Self {
        let services = Arc::new(Services { sqs: sqs::Sqs::new(), s3: s3::S3::default() });
        let (sqs, one) = open(Arc::clone(&services), services.sqs.faults.watch());
        let (s3, other) = open(Arc::clone(&services), services.s3.faults.watch());
        Self { services, sqs, s3, doors: [one, other] }
    }

    /// An address that answers for both.
    pub fn url(&self) -> String {
        format!("http://{}", self.sqs)
    }

    /// Environment of a process that uses it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let own = [
            ("AWS_ENDPOINT_URL_SQS", self.url()),
            ("AWS_ENDPOINT_URL_S3", format!("http://{}", self.s3)),
            // Nobody asks the network for a region or a role.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        let credentials = CREDENTIALS.map(|(name, value)| (name, value.to_owned()));
        own.into_iter().chain(credentials).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Makes a queue with these attributes.
    pub async fn queue(&self, name: &str, attributes: &[(&str, &str)]) {
        let attributes = attributes.iter().map(|(name, value)| (*name, Value::from(*value)));
        let attributes: Value = attributes.collect();
        let input = json!({ "QueueName": name, "Attributes": attributes });
        let made = self.services.sqs.call("CreateQueue", &input, &self.url(), Fault::None).await;
        assert!(made.is_ok(), "the queue {name} was not made");
    }

    /// A message with these attributes, as another producer sends it.
    pub async fn send(&self, queue: &str, body: &str, attributes: &[(&str, &str)]) {
        let attributes = attributes
            .iter()
            .map(|(name, value)| (*name, json!({ "DataType": "String", "StringValue": value })));
        let attributes: Value = attributes.collect();
        let url = self.queue_url(queue);
        let input =
            json!({ "QueueUrl": url, "MessageBody": body, "MessageAttributes": attributes });
        let sent = self.services.sqs.call("SendMessage", &input, &self.url(), Fault::None).await;
        assert!(sent.is_ok(), "the message was not sent to {queue}");
    }

    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.url(), sqs::ACCOUNT)
    }

    pub fn bucket(&self, name: &str) {
        self.services.s3.create(name);
    }

    pub fn sqs(&self) -> &Arc<Faults> {
        &self.services.sqs.faults
    }

    pub fn s3(&self) -> &Arc<Faults> {
        &self.services.s3.faults
    }

    /// How many messages are visible, and how many in flight.
    pub fn depth(&self, queue: &str) -> (usize, usize) {
        self.services.sqs.counts(queue)
    }

    /// The bodies of all messages, in no order.
    pub fn messages(&self, queue: &str) -> Vec<String> {
        self.services.sqs.bodies(queue)
    }

    /// An attribute of all messages, such as `job-id`.
    pub fn attributes(&self, queue: &str, name: &str) -> Vec<String> {
        self.services.sqs.values(queue, name)
    }

    pub fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.services.s3.object(bucket, key)
    }

    /// Somebody else removes an object, damages it, or puts one.
    pub fn replace(&self, bucket: &str, key: &str, body: Option<Bytes>) {
        self.services.s3.replace(bucket, key, body);
    }

    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.services.s3.keys(bucket, prefix)
    }
}

/// A socket that others of ours may bind beside it: the port stays ours while nobody listens.
pub(crate) fn bound(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.set_reuseport(true).expect("an option");
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).expect("a free port");
    socket
}

pub(crate) fn listen(port: u16) -> TcpListener {
    bound(port).listen(BACKLOG).expect("it listens")
}

fn open(
    services: Arc<Services>,
    faults: watch::Receiver<Fault>,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let keeper = bound(0);
    let address = keeper.local_addr().expect("a bound port");
    // At once: whoever is told the address may call.
    let mut listener = listen(address.port());
    let door = async move {
        // Never listens; as long as it lives nobody else gets the port.
        let _keeper = keeper;
        let mut faults = faults;
        loop {
            accept(listener, address, &services, &mut faults).await;
            if faults.wait_for(|fault| *fault != Fault::Refuse).await.is_err() {
                return;
            }
            listener = listen(address.port());
        }
    };
    (address, tokio::spawn(door))
}

/// Until nobody is to listen any more.
async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    services: &Arc<Services>,
    faults: &mut watch::Receiver<Fault>,
) {
    loop {
        let refuses = faults.wait_for(|fault| *fault == Fault::Refuse);
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => continue,
            },
            _ = refuses => return,
        };
        tokio::spawn(serve(stream, address, Arc::clone(services), faults.clone()));
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    services: Arc<Services>,
    mut faults: watch::Receiver<Fault>,
) {
    // Answers are small; waiting for more of them would make each call 40 ms long.
    stream.set_nodelay(true).expect("an option");
    let service = service_fn(move |request| answer(request, address, Arc::clone(&services)));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Clients that leave and answers that are lost on purpose are errors here.
        _ = connection => {}
        _ = faults.wait_for(|fault| *fault == Fault::Refuse) => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    address: SocketAddr,
    services: Arc<Services>,
) -> io::Result<Answered> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let operation = target.and_then(|target| target.strip_prefix("AmazonSQS."));
    let Some(operation) = operation.map(str::to_owned) else {
        let call = s3::Call::of(parts);
        let s3 = &services.s3;
        return match s3.faults.of(call.operation()) {
            Fault::Fail => Ok(s3::refused(500, "InternalError")),
            Fault::Throttle => Ok(s3::refused(503, "SlowDown")),
            Fault::Deny => Ok(s3::refused(403, "AccessDenied")),
            fault => done(fault, async { s3.call(&call, body) }).await,
        };
    };
    let sqs = &services.sqs;
    let refusal = |status, code: &str, message: &str| {
        let document = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": message });
        answered(status, document.to_string())
    };
    match sqs.faults.of(&operation) {
        Fault::Fail => Ok(refusal(500, "InternalError", "a test wants it so")),
        Fault::Throttle => Ok(refusal(400, "ThrottlingException", "a test wants it so")),
        Fault::Deny => Ok(refusal(400, "AccessDeniedException", "a test wants it so")),
        fault => {
            let call = async {
                let input: Value = serde_json::from_slice(&body).unwrap_or_default();
                match sqs.call(&operation, &input, &format!("http://{address}"), fault).await {
                    Ok(output) => answered(200, output.to_string()),
                    Err(refused) => refusal(400, refused.code, &refused.message),
                }
            };
            done(fault, call).await
        }
    }
}

/// Does the call as the fault lets it.
async fn done(fault: Fault, call: impl Future<Output = Answered>) -> io::Result<Answered> {
    match fault {
        Fault::Hang => std::future::pending().await,
        Fault::Refuse => Err(io::Error::other("refused")),
        Fault::LoseAnswer => {
            call.await;
            Err(io::Error::other("the answer is lost"))
        }
        _ => Ok(call.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    #[tokio::test]
    async fn a_service_that_refuses_can_not_be_reached_and_comes_back_at_the_same_place() {
        let cloud = Cloud::start().await;
        cloud.bucket("b");
        let client = Client::new(format!("http://{}", cloud.s3));
        let ask = || client.try_send("GET", "/b/none", "");
        assert_eq!(ask().await.expect("an answer").status, 404);
        cloud.s3().set(Fault::Refuse);
        assert!(ask().await.is_err());
        assert!(ask().await.is_err());
        cloud.s3().clear();
        crate::eventually("it is back", || async { ask().await.ok() }).await;
    }

    #[tokio::test]
    async fn an_answer_that_is_lost_was_done() {
        let cloud = Cloud::start().await;
        cloud.bucket("b");
        let client = Client::new(cloud.url());
        cloud.s3().set_only("PutObject", Fault::LoseAnswer);
        assert!(client.try_send("PUT", "/b/key", "x").await.is_err());
        assert_eq!(cloud.object("b", "key").as_deref(), Some(b"x".as_slice()));
        assert_eq!(cloud.s3().calls("PutObject"), 1);
    }
}
