//! What to do about the usual slips in YAML, of which its parser says only that it can't go on.

use super::node::Place;

const QUOTES: &str = "put a text with {{ … }}, {% … %} or ${ … } in quotes";

/// What the parser said, and what to do about it where that can be told.
pub(super) fn advised(text: &str, place: Place, told: &str) -> String {
    match advice(text, place, told) {
        Some(advice) => format!("{told}; {advice}"),
        None => told.to_owned(),
    }
}

fn advice(text: &str, place: Place, told: &str) -> Option<String> {
    let mut lines = text.lines().skip(place.line.saturating_sub(2));
    let before = if place.line > 1 { lines.next().unwrap_or_default() } else { "" };
    let line = lines.next().unwrap_or_default();
    if has_computation(line) {
        return Some(QUOTES.to_owned());
    }
    if told.starts_with("unexpected character") {
        let begins = line.chars().nth(place.column - 1)?;
        return Some(format!("put a text that begins with {begins} in quotes"));
    }
    if told.starts_with("mapping values are not allowed") {
        let name = line.chars().take(place.column - 1).collect::<String>();
        // In what comes before the colon there is one already, or in the line before.
        if name.contains(": ") {
            return Some("put a text with a colon and a space in it in quotes".to_owned());
        }
        let (name, value) = unparted(before)?;
        return Some(format!("put a space behind the colon in the line before: `{name}: {value}`"));
    }
    if told.contains("unknown escape character") {
        return Some("write \\\\ for \\ in double quotes, or use single quotes".to_owned());
    }
    None
}

/// Whether a line has what is an expression or a template within quotes, and none around it.
fn has_computation(line: &str) -> bool {
    ["{{", "{%", "${"].iter().any(|mark| {
        line.match_indices(mark).any(|(at, _)| {
            let quotes = line[..at].matches(['"', '\'']).count();
            quotes.is_multiple_of(2)
        })
    })
}

/// A name and a value that have only a colon between them: `id:a`.
fn unparted(line: &str) -> Option<(&str, &str)> {
    let line = line.trim().trim_start_matches("- ").trim_start();
    let (name, value) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    (is_name && value.starts_with(|c: char| !c.is_whitespace())).then_some((name, value))
}
