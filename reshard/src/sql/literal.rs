//! Values as typed constants of SQL.

use rules::shard::ShardKey;
use std::fmt;

/// Why a value can't be written as a constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiteralError {
    /// It contains the byte 0, which no text of PostgreSQL can hold.
    Nul,
    /// It is a time before the year 1 or after the year 9999, which RFC 3339 can't write.
    Year(String),
}

impl fmt::Display for LiteralError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul => out.write_str("a text contains the byte 0"),
            Self::Year(text) => write!(out, "{text} lies outside the years 1 to 9999"),
        }
    }
}

impl std::error::Error for LiteralError {}

/// A constant as it stands in SQL, with its type.
///
/// Each is a quoted text with a cast: PostgreSQL makes a constant of it while it reads the statement, so it may
/// stand in a row filter and in the condition of a trigger, and the lowest bigint can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal(String);

impl Literal {
    /// A text.
    ///
    /// # Errors
    /// When it contains the byte 0.
    pub fn text(value: &str) -> Result<Self, LiteralError> {
        Ok(Self(format!("{}::text", quoted(value)?)))
    }

    /// A text where the grammar wants a bare constant, as an argument of a trigger.
    ///
    /// # Errors
    /// When it contains the byte 0.
    pub fn bare(value: &str) -> Result<Self, LiteralError> {
        quoted(value).map(Self)
    }

    /// A bound of a range, in the type that columns of such keys are compared in.
    ///
    /// # Errors
    /// When the type of PostgreSQL can't hold it.
    pub fn key(key: &ShardKey) -> Result<Self, LiteralError> {
        let (value, kind) = (key.to_string(), column_type(key));
        if matches!(key, ShardKey::Timestamp(_)) {
            let year = value.split('-').next().unwrap_or_default();
            if year.len() != 4 || year == "0000" {
                return Err(LiteralError::Year(value));
            }
        }
        Ok(Self(format!("{}::{kind}", quoted(&value)?)))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn column_type(key: &ShardKey) -> &'static str {
    match key {
        ShardKey::Int(_) => "bigint",
        ShardKey::Text(_) => "text",
        ShardKey::Uuid(_) => "uuid",
        ShardKey::Timestamp(_) => "timestamptz",
    }
}

/// A quoted text that means the same whatever `standard_conforming_strings` is: one with a backslash has the
/// form that says so.
fn quoted(value: &str) -> Result<String, LiteralError> {
    if value.contains('\0') {
        return Err(LiteralError::Nul);
    }
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') {
        Ok(format!("E'{}'", doubled.replace('\\', "\\\\")))
    } else {
        Ok(format!("'{doubled}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rules::document::KeyType;

    /// What PostgreSQL's lexer makes of the constant at the start of the text, and what it leaves.
    fn lexed(sql: &str) -> Option<(String, &str)> {
        let (is_escaped, body) = match sql.strip_prefix("E'") {
            Some(body) => (true, body),
            None => (false, sql.strip_prefix('\'')?),
        };
        let (mut value, mut letters) = (String::new(), body.char_indices().peekable());
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\'' if letters.next_if(|(_, next)| *next == '\'').is_some() => value.push('\''),
                '\'' => return Some((value, &body[at + 1..])),
                '\\' if is_escaped => value.push(letters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }

    #[test]
    fn bounds_have_the_types_of_their_columns() {
        let literal = |key_type, text| {
            Literal::key(&ShardKey::parse(key_type, text).expect(text)).map(|it| it.to_string())
        };
        let lowest = literal(KeyType::Int, "-9223372036854775808");
        assert_eq!(lowest.as_deref(), Ok("'-9223372036854775808'::bigint"));
        assert_eq!(literal(KeyType::Text, "d'Or").as_deref(), Ok("'d''Or'::text"));
        assert_eq!(literal(KeyType::Text, r"a\'b").as_deref(), Ok(r"E'a\\''b'::text"));
        let uuid = "00000000-0000-0000-0000-0000000000ff";
        assert_eq!(literal(KeyType::Uuid, uuid), Ok(format!("'{uuid}'::uuid")));
        let time = literal(KeyType::Timestamp, "2026-01-01T01:00:00+01:00");
        assert_eq!(time.as_deref(), Ok("'2026-01-01T00:00:00.000000Z'::timestamptz"));
        let first = literal(KeyType::Timestamp, "0000-01-01T00:00:00Z");
        assert!(matches!(first, Err(LiteralError::Year(_))), "{first:?}");
        let last = literal(KeyType::Timestamp, "9999-12-31T23:59:59-01:00");
        assert!(matches!(last, Err(LiteralError::Year(_))), "{last:?}");
    }

    proptest! {
        #[test]
        fn no_text_ends_its_quotes(value in "[^\0]{0,40}|['\\\\E;-]{0,20}") {
            let sql = Literal::text(&value).expect("no byte 0").to_string();
            let read = lexed(&sql);
            prop_assert_eq!(read, Some((value, "::text")), "{}", sql);
        }
    }
}
