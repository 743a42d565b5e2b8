//! The regular expressions of `matches`.

use regex::{Regex, RegexBuilder};

use super::compile::MAX_PATTERNS;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 256;
/// Sizes that a compiled pattern may have, in bytes, and what a byte of text then costs.
const SIZES: [(usize, usize); 2] = [(32 << 10, 16), (512 << 10, 64)];

/// How much memory the patterns of a source took at most while it was found out that something is
/// wrong with it, whichever language it is in.
pub(crate) fn most_pattern_bytes(source: &str) -> usize {
    // A template is given up with the expression in which there are too many of them.
    let patterns = source.matches("matches").count().min(2 * MAX_PATTERNS);
    patterns * (SIZES[0].0 + SIZES[1].0)
}

/// A regular expression, what a byte of text costs it, and how much memory it takes at most.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) regex: Regex,
    pub(super) cost: usize,
    pub(super) size: usize,
}

impl Pattern {
    /// Compiles it within its bounds; the error says what is wrong with it.
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN {
            return Err(format!("a pattern of matches is longer than {MAX_PATTERN} bytes"));
        }
        for (size, cost) in SIZES {
            let mut builder = RegexBuilder::new(pattern);
            match builder.size_limit(size).nest_limit(20).build() {
                Ok(regex) => return Ok(Self { regex, cost, size }),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(_) => return Err("a pattern of matches is no regular expression".to_owned()),
            }
        }
        Err("a pattern of matches is too large when compiled".to_owned())
    }
}
