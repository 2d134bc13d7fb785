//! Any text as a name, a constant and a bound of SQL: PostgreSQL's lexer sees one token, whose value is the text.

use reshard::sql::{Identifier, KeyRange, Literal, RowSide, TableName};
use rules::document::KeyType;
use rules::shard::ShardKey;

/// What the lexer is at the end of the SQL that was made.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Constant(String),
    Bare(String),
}

pub fn run(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    if let Ok(name) = Identifier::new(text) {
        assert_eq!(tokens(&name.to_string()), [Token::Name(text.to_owned())]);
        let own = TableName { schema: name.clone(), name: name.clone() };
        assert_eq!(TableName::read_with_column(&format!("{own}:{name}")), Ok((own, Some(name))));
    }
    if let Ok(literal) = Literal::text(text) {
        let cast = Token::Bare("::text".to_owned());
        assert_eq!(tokens(&literal.to_string()), [Token::Constant(text.to_owned()), cast]);
    }
    for key_type in [KeyType::Int, KeyType::Text, KeyType::Uuid, KeyType::Timestamp] {
        bound(key_type, text);
    }
}

/// A bound stands in a condition as one constant.
fn bound(key_type: KeyType, text: &str) {
    let Some(key) = ShardKey::parse(key_type, text) else { return };
    let Ok(range) = KeyRange::new(key_type, Some(key.clone()), None) else { return };
    assert!(range.contains(&key));
    let column = Identifier::new("k").expect("a name");
    let found = tokens(&range.condition(&column, RowSide::Row));
    let constants = found.iter().filter(|token| matches!(token, Token::Constant(_)));
    assert_eq!(constants.collect::<Vec<_>>(), [&Token::Constant(key.to_string())]);
}

/// The names, the constants and what stands between them.
fn tokens(sql: &str) -> Vec<Token> {
    let (mut found, mut rest) = (Vec::new(), sql);
    while let Some(first) = rest.chars().next() {
        let (is_escaped, body) = match rest.strip_prefix("E'") {
            Some(body) => (true, Some(body)),
            None => (false, rest.strip_prefix(['\'', '"'])),
        };
        let Some(body) = body else {
            let end = rest[first.len_utf8()..].find(['\'', '"', 'E']);
            let end = end.map_or(rest.len(), |end| end + first.len_utf8());
            found.push(Token::Bare(rest[..end].to_owned()));
            rest = &rest[end..];
            continue;
        };
        let quote = if first == '"' { '"' } else { '\'' };
        let (value, after) = quoted(body, quote, is_escaped);
        found.push(if quote == '"' { Token::Name(value) } else { Token::Constant(value) });
        rest = after;
    }
    found
}

/// The text up to its closing quote, and what follows it.
fn quoted(body: &str, quote: char, is_escaped: bool) -> (String, &str) {
    let (mut value, mut letters) = (String::new(), body.char_indices().peekable());
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            if letters.next_if(|(_, next)| *next == quote).is_none() {
                return (value, &body[at + quote.len_utf8()..]);
            }
            value.push(quote);
        } else if letter == '\\' && is_escaped {
            value.extend(letters.next().map(|(_, next)| next));
        } else {
            value.push(letter);
        }
    }
    panic!("the quote is not closed: {body}")
}
