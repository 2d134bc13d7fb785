//! The rows of the range as they are at one point in time, brought to the target.

pub mod chunk;
pub mod halt;
pub mod indexes;
pub mod pace;
pub mod worker;
