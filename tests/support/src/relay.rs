//! An address that is known before who listens behind it, and stays when that changes: as a Service is.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Relay {
    address: String,
    leads: watch::Sender<Leads>,
}

/// Where connections lead.
#[derive(Default)]
struct Leads {
    addresses: Vec<String>,
    /// How often all connections were cut.
    cuts: usize,
}

impl Relay {
    /// Leads nowhere yet: connections are closed at once.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let (leads, seen) = watch::channel(Leads::default());
        tokio::spawn(async move {
            let turn = AtomicUsize::new(0);
            while let Ok((client, _)) = listener.accept().await {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carried(client, seen.clone(), turn));
            }
        });
        Self { address, leads }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// New connections lead there, to each in turn.
    pub fn lead_to(&self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        self.leads.send_modify(|leads| leads.addresses = addresses);
    }

    /// Connections lead nowhere, and those that are open are cut.
    pub fn cut(&self) {
        self.leads.send_modify(|leads| {
            leads.addresses.clear();
            leads.cuts += 1;
        });
    }
}

/// Carries one connection until it ends or is cut.
async fn carried(mut client: TcpStream, mut leads: watch::Receiver<Leads>, turn: usize) {
    let (to, cuts) = {
        let leads = leads.borrow();
        let Some(place) = turn.checked_rem(leads.addresses.len()) else { return };
        (leads.addresses[place].clone(), leads.cuts)
    };
    let Ok(mut server) = TcpStream::connect(&to).await else { return };
    let cut = async {
        // Nobody cuts a connection whose relay is gone.
        if leads.wait_for(|leads| leads.cuts > cuts).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = cut => {}
    }
}
