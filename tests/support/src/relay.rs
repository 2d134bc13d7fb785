//! An address that is known before who listens behind it, and stays when that changes: as a Service is.

use std::sync::{Arc, Mutex};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

pub struct Relay {
    address: String,
    behind: Arc<Mutex<Option<String>>>,
}

impl Relay {
    /// Leads nowhere yet: connections are closed at once.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let behind = Arc::new(Mutex::new(None::<String>));
        let to = Arc::clone(&behind);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = to.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to?).await.ok()?;
                    copy_bidirectional(&mut client, &mut server).await.ok()
                });
            }
        });
        Self { address, behind }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// New connections lead there from now on.
    pub fn lead_to(&self, address: &str) {
        *self.behind.lock().expect("no panic") = Some(address.to_owned());
    }

    /// New connections lead nowhere.
    pub fn cut(&self) {
        *self.behind.lock().expect("no panic") = None;
    }
}
