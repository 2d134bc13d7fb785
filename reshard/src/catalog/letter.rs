//! PostgreSQL's type `"char"`.

/// A value of PostgreSQL's type `"char"`; none for the byte 0, which stands for nothing there.
pub(super) fn letter(byte: i8) -> Option<char> {
    u8::try_from(byte).ok().filter(|byte| *byte != 0).map(char::from)
}
