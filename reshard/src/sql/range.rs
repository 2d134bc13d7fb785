//! A range of keys, and the condition by which rows lie in it.

use super::literal::{Literal, LiteralError};
use super::name::Identifier;
use rules::document::KeyType;
use rules::shard::{ShardKey, interval};
use std::fmt;

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeError {
    /// It has no `..`.
    Form(String),
    /// An end is no key of the map's type.
    NotAKey { text: String, key_type: KeyType },
    /// It holds no key: its lower end does not lie below its upper one.
    Empty(String),
    /// An end can't be written as a constant of PostgreSQL.
    Constant(LiteralError),
}

impl fmt::Display for RangeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(text) => write!(
                out,
                "`{text}` is no range: write FROM..UNTIL, where UNTIL is the first key that stays"
            ),
            Self::NotAKey { text, key_type } => {
                write!(out, "`{text}` is not a key of type {}", key_type.as_str())
            }
            Self::Empty(shown) => write!(out, "the range {shown} holds no key"),
            Self::Constant(why) => why.fmt(out),
        }
    }
}

impl std::error::Error for RangeError {}

/// The row that a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSide {
    /// The row of a query or of a row filter.
    Row,
    /// The row before a trigger's change.
    Old,
    /// The row after a trigger's change.
    New,
}

/// A half-open range of keys. `Display` writes it for messages: `[100,200)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    key_type: KeyType,
    from: Option<RangeEnd>,
    until: Option<RangeEnd>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RangeEnd {
    key: ShardKey,
    literal: Literal,
}

impl KeyRange {
    /// Takes the two ends; none: open.
    ///
    /// # Errors
    /// When the range is empty, or PostgreSQL can't hold an end.
    pub fn new(
        key_type: KeyType,
        from: Option<ShardKey>,
        until: Option<ShardKey>,
    ) -> Result<Self, RangeError> {
        let end = |key: Option<ShardKey>| {
            key.map(|key| Literal::key(&key).map(|literal| RangeEnd { key, literal }))
                .transpose()
                .map_err(RangeError::Constant)
        };
        let own = Self { key_type, from: end(from)?, until: end(until)? };
        match (own.from(), own.until()) {
            (Some(from), Some(until)) if from >= until => Err(RangeError::Empty(own.to_string())),
            _ => Ok(own),
        }
    }

    /// Reads `FROM..UNTIL`; an end that is left out is open.
    ///
    /// # Errors
    /// When it has another form, an end is no key of this type, or the range is empty.
    pub fn parse(key_type: KeyType, text: &str) -> Result<Self, RangeError> {
        let (from, until) =
            text.split_once("..").ok_or_else(|| RangeError::Form(text.to_owned()))?;
        let end = |text: &str| {
            let not_a_key = || RangeError::NotAKey { text: text.to_owned(), key_type };
            match text {
                "" => Ok(None),
                text => ShardKey::parse(key_type, text).ok_or_else(not_a_key).map(Some),
            }
        };
        Self::new(key_type, end(from)?, end(until)?)
    }

    /// As [`KeyRange::parse`] reads it: `100..200`.
    pub fn text(&self) -> String {
        let end = |key: Option<&ShardKey>| key.map(ShardKey::to_string).unwrap_or_default();
        format!("{}..{}", end(self.from()), end(self.until()))
    }

    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The lowest key; none: open below.
    pub fn from(&self) -> Option<&ShardKey> {
        self.from.as_ref().map(|end| &end.key)
    }

    /// The first key above it; none: open above.
    pub fn until(&self) -> Option<&ShardKey> {
        self.until.as_ref().map(|end| &end.key)
    }

    /// Whether the key lies in it.
    pub fn contains(&self, key: &ShardKey) -> bool {
        self.from().is_none_or(|from| from <= key) && self.until().is_none_or(|until| key < until)
    }

    /// Whether some key lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let ends_above = |upper: &Self, lower: &Self| match (upper.until(), lower.from()) {
            (Some(until), Some(from)) => from < until,
            _ => true,
        };
        ends_above(self, other) && ends_above(other, self)
    }

    /// The condition that the row's key lies in the range. It is in parentheses and needs none around it.
    ///
    /// Texts are ordered by their bytes, as the rules file orders them, whatever the database's collation is.
    pub fn condition(&self, column: &Identifier, side: RowSide) -> String {
        let row = match side {
            RowSide::Row => "",
            RowSide::Old => "OLD.",
            RowSide::New => "NEW.",
        };
        let collation = if self.key_type == KeyType::Text { " COLLATE \"C\"" } else { "" };
        let ends = [(">=", &self.from), ("<", &self.until)];
        let parts: Vec<String> = ends
            .into_iter()
            .filter_map(|(sign, end)| {
                let RangeEnd { literal, .. } = end.as_ref()?;
                Some(format!("{row}{column}{collation} {sign} {literal}"))
            })
            .collect();
        if parts.is_empty() {
            return format!("({row}{column} IS NOT NULL)");
        }
        format!("({})", parts.join(" AND "))
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |end: Option<&ShardKey>| end.map(ShardKey::to_string);
        out.write_str(&interval(text(self.from()).as_deref(), text(self.until()).as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column() -> Identifier {
        Identifier::new("k").expect("a name")
    }

    fn range(key_type: KeyType, text: &str) -> KeyRange {
        KeyRange::parse(key_type, text).expect(text)
    }

    #[test]
    fn a_condition_names_both_ends_and_the_row_it_is_about() {
        let own = range(KeyType::Int, "100..200");
        assert_eq!(own.to_string(), "[100,200)");
        let condition = own.condition(&column(), RowSide::New);
        assert_eq!(condition, "(NEW.\"k\" >= '100'::bigint AND NEW.\"k\" < '200'::bigint)");
        let below = range(KeyType::Int, "..200").condition(&column(), RowSide::Old);
        assert_eq!(below, "(OLD.\"k\" < '200'::bigint)");
        let all = range(KeyType::Int, "..").condition(&column(), RowSide::Row);
        assert_eq!(all, "(\"k\" IS NOT NULL)");
        let text = range(KeyType::Text, "a..").condition(&column(), RowSide::Row);
        assert_eq!(text, "(\"k\" COLLATE \"C\" >= 'a'::text)");
    }

    #[test]
    fn what_is_no_range_is_refused_by_name() {
        let refused = |text| KeyRange::parse(KeyType::Int, text).expect_err(text);
        assert_eq!(refused("100"), RangeError::Form("100".to_owned()));
        assert!(matches!(refused("1..x"), RangeError::NotAKey { .. }));
        assert!(matches!(refused("200..200"), RangeError::Empty(_)));
        assert!(matches!(refused("-1..-2"), RangeError::Empty(_)));
        let early = KeyRange::parse(KeyType::Timestamp, "0000-01-01T00:00:00Z..");
        assert!(matches!(early, Err(RangeError::Constant(_))), "{early:?}");
    }

    proptest! {
        #[test]
        fn two_ranges_overlap_where_they_share_a_key(
            (a, b) in (-9_i64..9, 1_i64..9), (c, d) in (-9_i64..9, 1_i64..9)
        ) {
            let one = range(KeyType::Int, &format!("{a}..{}", a + b));
            let other = range(KeyType::Int, &format!("{c}..{}", c + d));
            let is_in_both = |key: &i64| {
                one.contains(&ShardKey::Int(*key)) && other.contains(&ShardKey::Int(*key))
            };
            prop_assert_eq!(one.overlaps(&other), (-20..20).any(|key| is_in_both(&key)));
            prop_assert!(one.overlaps(&range(KeyType::Int, "..")));
        }
    }
}
