//! The two databases that are compared.

use crate::moved::{Channel, Move};
use crate::server::Session;

/// Rows that are named of one table; the others are counted.
pub(super) const NAMED_MAX: usize = 20;

/// The two sides, and what is compared.
pub struct Sides<'s> {
    pub source: &'s Session,
    pub target: &'s Session,
    pub moved: &'s Move,
    /// By which `target` follows `source`.
    pub channel: Channel,
}
