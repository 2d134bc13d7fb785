//! What an annotation's value must look like: once as code, once as the regular expression (RE2)
//! with which the admission policy says the same. A test holds the two together.

use crate::names::{AUTO, NONE};

/// A form of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The name of a ConfigMap or a Secret.
    Name,
    /// Names of Secrets, separated by commas, or nothing.
    Names,
    /// A reference to an image; what it means is for the registry to say.
    Image,
    /// An amount of CPU or memory.
    Quantity,
    /// The same, `none`, or `auto`.
    Limit,
    /// The number of a user, `none`, or `auto`.
    User,
    /// A port's name or number.
    Port,
    /// Blocks of addresses and `private`, separated by commas; or `none`.
    Proxies,
}

impl Form {
    pub fn regex(self) -> &'static str {
        match self {
            Self::Name => "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
            Self::Names => "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?(,[a-z0-9]([a-z0-9.-]*[a-z0-9])?)*)?$",
            Self::Image => "^[!-~]+$",
            Self::Quantity => "^[0-9]+([.][0-9]+)?(m|[kMGT]|[KMGT]i)?$",
            Self::Limit => "^(none|auto|[0-9]+([.][0-9]+)?(m|[kMGT]|[KMGT]i)?)$",
            Self::User => "^(none|auto|[1-9][0-9]{0,9})$",
            Self::Proxies => {
                "^(none|(private|[0-9a-f.:]+(/[0-9]+)?)(,(private|[0-9a-f.:]+(/[0-9]+)?))*)$"
            }
            Self::Port => "^([1-9][0-9]{0,4}|[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?)$",
        }
    }

    pub fn fits(self, text: &str) -> bool {
        match self {
            Self::Name => is_name(text, ".-"),
            Self::Names => text.is_empty() || text.split(',').all(|name| is_name(name, ".-")),
            Self::Image => !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()),
            Self::Quantity => is_quantity(text),
            Self::Limit => [AUTO, NONE].contains(&text) || is_quantity(text),
            Self::User => [AUTO, NONE].contains(&text) || is_user(text),
            Self::Proxies => text == "none" || text.split(',').all(is_proxy),
            Self::Port => text.len() <= crate::names::PORT_NAME_CHARS_MAX && is_name(text, "-"),
        }
    }

    pub fn described(self) -> &'static str {
        match self {
            Self::Name => "a name of small letters, digits, `-` and `.`",
            Self::Names => "names separated by commas, without blanks",
            Self::Image => "an image reference without spaces",
            Self::Quantity => "an amount such as 50m, 1, 64Mi",
            Self::Limit => "an amount such as 500m or 1, `none`, or `auto`",
            Self::User => "the number of a user but 0, `none`, or `auto`",
            Self::Port => "the name or the number of a container port",
            Self::Proxies => "blocks of addresses and `private`, separated by commas, or `none`",
        }
    }
}

fn is_name(text: &str, between: &str) -> bool {
    let is_outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_outer)
        && text.ends_with(is_outer)
        && text.chars().all(|c| is_outer(c) || between.contains(c))
}

fn is_user(text: &str) -> bool {
    (1..=10).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_digit())
        && !text.starts_with('0')
}

fn is_proxy(text: &str) -> bool {
    let is_all = |text: &str, of: fn(char) -> bool| !text.is_empty() && text.chars().all(of);
    let is_part = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '.' | ':');
    let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
    text == "private" || (is_all(address, is_part) && is_all(bits, |c| c.is_ascii_digit()))
}

fn is_quantity(text: &str) -> bool {
    const UNITS: [&str; 10] = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    is_digits(whole) && is_digits(part) && UNITS.contains(&unit)
}
