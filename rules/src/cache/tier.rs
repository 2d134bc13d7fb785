//! The two caches.

/// Which of the two caches asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The Cloudflare Worker, in front of the origin.
    Edge,
    /// The sidecar, beside the application.
    Sidecar,
}

impl Tier {
    /// The name in `Cache-Status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "spillway-edge",
            Self::Sidecar => "spillway-sidecar",
        }
    }
}
