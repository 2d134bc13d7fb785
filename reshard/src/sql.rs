//! SQL as text. A name or a value reaches a statement through these types only, so that no text of a user can
//! end its quotes.

mod literal;
mod name;
mod range;

pub use literal::{Literal, LiteralError};
pub use name::{IDENTIFIER_BYTES_MAX, Identifier, NameError, TableName};
pub use range::{KeyRange, RangeError, RowSide};
