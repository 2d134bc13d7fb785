//! Formats output lines, and parses header lines as they are typed.

use std::fmt::Write;

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text}: write Name: value"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

pub(super) fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "  {name:<9}{text}");
}
