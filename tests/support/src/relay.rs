//! An address that is known before who listens behind it, and stays when that changes: as a Service is.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Relay {
    address: String,
    behind: watch::Sender<Vec<String>>,
}

impl Relay {
    /// Leads nowhere yet: connections are closed at once.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let (behind, leads) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let turn = AtomicUsize::new(0);
            while let Ok((client, _)) = listener.accept().await {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carried(client, leads.clone(), turn));
            }
        });
        Self { address, behind }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connections lead there, to each in turn. Those that lead elsewhere are cut.
    pub fn lead_to(&self, addresses: &[&str]) {
        self.behind.send_replace(addresses.iter().map(|&address| address.to_owned()).collect());
    }

    /// Connections lead nowhere, and those that are open are cut.
    pub fn cut(&self) {
        self.lead_to(&[]);
    }
}

/// Carries one connection, for as long as it leads where it began.
async fn carried(mut client: TcpStream, mut leads: watch::Receiver<Vec<String>>, turn: usize) {
    let to = {
        let addresses = leads.borrow();
        let Some(place) = turn.checked_rem(addresses.len()) else { return };
        addresses[place].clone()
    };
    let Ok(mut server) = TcpStream::connect(&to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = leads.wait_for(|addresses| !addresses.contains(&to)) => {}
    }
}
