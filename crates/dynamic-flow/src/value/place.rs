//! Where in a JSON text a type complained, and the complaint without the values that it quotes.

use super::build::escaped;

/// The JSON pointer to what an error is about, if the error knows its place in the text.
pub(super) fn of(error: &serde_json::Error, text: &[u8]) -> Option<String> {
    // What we write has one line; of any other text the place is a convenience.
    (error.line() == 1).then(|| pointer(text, error.column()))
}

enum Around {
    List { index: usize },
    Object { key: String, in_value: bool },
}

/// The pointer to the innermost value that holds the last of the first `end` bytes.
fn pointer(text: &[u8], end: usize) -> String {
    let text = &text[..end.min(text.len())];
    let mut around: Vec<Around> = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let mut next = at + 1;
        match byte {
            b'[' => around.push(Around::List { index: 0 }),
            b'{' => around.push(Around::Object { key: String::new(), in_value: false }),
            b']' | b'}' => drop(around.pop()),
            b'"' => {
                next = string_end(text, at);
                if let Some(Around::Object { key, in_value: false }) = around.last_mut() {
                    *key = serde_json::from_slice(&text[at..next]).unwrap_or_default();
                }
            }
            // A separator ends a value only if something follows it.
            b':' if next < text.len() => {
                if let Some(Around::Object { in_value, .. }) = around.last_mut() {
                    *in_value = true;
                }
            }
            b',' if next < text.len() => match around.last_mut() {
                Some(Around::List { index }) => *index += 1,
                Some(Around::Object { in_value, .. }) => *in_value = false,
                None => {}
            },
            _ => {}
        }
        at = next;
    }
    let opened = matches!(text.last(), Some(b'[' | b'{'));
    let deepest = around.len() - usize::from(opened && !around.is_empty());
    around[..deepest]
        .iter()
        .map_while(|around| match around {
            Around::List { index } => Some(format!("/{index}")),
            Around::Object { key, in_value: true } => Some(format!("/{}", escaped(key))),
            Around::Object { in_value: false, .. } => None,
        })
        .collect()
}

/// Where the string ends that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

/// What `serde` says of values before it quotes them.
const KINDS: [&str; 10] = [
    "boolean",
    "integer",
    "floating point",
    "character",
    "string",
    "byte array",
    "sequence",
    "map",
    "null",
    "Option value",
];

/// A type's complaint without place and without the values that it quotes.
pub(super) fn redacted(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(complaint, _)| complaint);
    for class in ["invalid type", "invalid value", "unknown variant"] {
        let Some(rest) = text.strip_prefix(class) else { continue };
        let kind = rest.strip_prefix(": ").and_then(|found| {
            KINDS.into_iter().find(|kind| found.starts_with(kind)).map(|kind| format!(": {kind}"))
        });
        // The last one: a quoted value may hold the same words, what is expected holds no value.
        let expected = rest.rsplit_once(", expected ").map(|(_, expected)| expected);
        let expected = expected.map(|expected| format!(", expected {expected}"));
        return format!("{class}{}{}", kind.unwrap_or_default(), expected.unwrap_or_default());
    }
    // These name fields of the type, not values.
    if ["missing field", "unknown field", "duplicate field", "invalid length"]
        .iter()
        .any(|class| text.starts_with(class))
    {
        return text.to_owned();
    }
    ['"', '`', '\''].into_iter().fold(text.to_owned(), without_quoted)
}

/// Leaves out all that stands between the first and the last of these quotes.
fn without_quoted(text: String, quote: char) -> String {
    match (text.find(quote), text.rfind(quote)) {
        (Some(first), Some(last)) if first < last => {
            format!("{}…{}", &text[..=first], &text[last..])
        }
        _ => text,
    }
}
