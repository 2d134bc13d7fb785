//! A person, or Kubernetes, who wants this tool to end: it does so where a move can be gone on with at once.

use std::io::{self, Write};
use std::process::exit;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a command that was interrupted, as shells have it for SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Whether the process was asked to end.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for SIGINT and SIGTERM. The first is a request; the second ends the process at once, as SIGKILL would.
    ///
    /// # Errors
    /// When the system refuses to report signals.
    pub fn listen() -> io::Result<Self> {
        let (asked, own) = watch::channel(false);
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut ends = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = ends.recv() => {}
                }
                if asked.send_replace(true) {
                    exit(i32::from(EXIT_INTERRUPTED));
                }
                // Nothing can be done when stderr is closed.
                let _ = writeln!(
                    io::stderr(),
                    "reshard: ends as soon as no write of the range waits for it; a second signal ends it at once"
                );
            }
        });
        Ok(Self(own))
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        let mut own = self.0.clone();
        if own.wait_for(|is_asked| *is_asked).await.is_err() {
            // Nobody listens any more, so nobody asks.
            std::future::pending::<()>().await;
        }
    }
}
