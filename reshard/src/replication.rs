//! How the target follows the source: publication and slot there, subscription here, and a marker by which it is
//! seen how far.

pub mod lookout;
pub mod marker;
pub mod publication;
pub mod subscription;
