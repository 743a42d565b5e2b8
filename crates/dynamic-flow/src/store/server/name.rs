//! Names that users configure: of tables, collections, prefixes. Never pasted unchecked.

use crate::Result;

use super::misconfigured;

/// What names of one sort may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    /// Which setting it is, as messages call it: `table_name`.
    pub(crate) setting: &'static str,
    /// How many bytes it has at the most.
    pub(crate) max: usize,
    /// What it must not hold, beside control characters.
    pub(crate) without: &'static [char],
}

impl Name {
    /// Says whether the server can have something of that name. How it is quoted is the store's
    /// own affair, and quoted it must be.
    pub(crate) fn check(self, name: &str) -> Result<()> {
        let Self { setting, max, without } = self;
        if name.is_empty() {
            return Err(misconfigured(format!("{setting} is empty")));
        }
        if name.len() > max {
            let length = name.len();
            return Err(misconfigured(format!("{setting} has {length} bytes; {max} at the most")));
        }
        match name.chars().find(|c| c.is_control() || without.contains(c)) {
            Some(c) => Err(misconfigured(format!("{setting} must not hold {c:?}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_for_its_length_and_for_what_it_holds() {
        let name = Name { setting: "table_name", max: 8, without: &['$'] };
        assert!(name.check("flöws \"").is_ok());
        for (wrong, why) in
            [("", "empty"), ("123456789", "9 bytes"), ("a\0b", "'\\0'"), ("a$", "'$'"), ("\n", "n")]
        {
            let error = name.check(wrong).unwrap_err();
            assert!(error.message().starts_with("table_name"), "{error}");
            assert!(error.message().contains(why), "{error}");
        }
    }
}
