//! Connection URLs: what of them may be shown, and which of their parameters are a store's own.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize as _, Deserializer, de::Error as _};
use url::form_urlencoded;

use crate::{Error, Result, flow::parse_duration};

use super::{Secret, misconfigured};

/// Where a server is, without user, password and parameters: `postgres://host:5432/flows`.
///
/// Takes what may hold several hosts, and what is no URL at all, and shows no secret of either.
///
/// ```
/// use dynamic_flow::store::location;
///
/// assert_eq!(location("redis://:hunter2@host:6379/0?prefix=shop:"), "redis://host:6379/0");
/// assert_eq!(location("postgres://u:hunter?2@host/flows"), "postgres://…", "what is the password?");
/// ```
pub fn location(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "…".into() };
    // A password may hold an unescaped `@`, `/`, `?` or `#`, and so may a parameter's value: where
    // it can't be told what belongs to what, nothing is shown.
    if is_unclear(rest) {
        return format!("{scheme}://…");
    }
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, after)| after);
    format!("{scheme}://{place}")
}

/// Whether what looks like parameters may be a part of the password, which holds a `?` or `#` that
/// is not escaped: the `@` that ends the password comes later.
fn is_unclear(url: &str) -> bool {
    url.find(['?', '#']).is_some_and(|at| url[at..].contains('@'))
}

/// Refuses a URL whose user or password holds an `@`, `/` or `#` that is not escaped. Drivers differ
/// in where the host begins then: they would go to another one, and call it by a part of the
/// password.
#[cfg(any(feature = "postgres", feature = "neo4j"))]
pub(crate) fn check_credentials(url: &str) -> Result<()> {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let base = rest.split('?').next().unwrap_or_default();
    match base.rsplit_once('@') {
        Some((credentials, _)) if credentials.contains(['@', '/', '#']) => Err(not_escaped()),
        _ => Ok(()),
    }
}

/// Shows nothing of the URL, of which any part may be a part of the password.
fn not_escaped() -> Error {
    misconfigured(
        "the URL can't be read: a character that has a meaning in URLs is not escaped; in user, \
         password, names and parameters write @ as %40, / as %2F, ? as %3F and # as %23",
    )
}

/// The parameters of a URL, `?name=value&…`, from which a store takes those that are its own.
#[derive(Clone)]
pub(crate) struct Parameters {
    base: Secret,
    pairs: Vec<(String, String)>,
    unclear: bool,
}

impl Parameters {
    /// Takes the parameters of a URL apart.
    pub(crate) fn of(url: &str) -> Self {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { base: base.into(), pairs, unclear: is_unclear(url) }
    }

    /// What to say of a URL that can't be read, where what looks like parameters may be a part of
    /// the password: nothing of it.
    pub(crate) fn unclear(&self) -> Option<Error> {
        self.unclear.then(not_escaped)
    }

    /// Takes a parameter; none if it is not there.
    ///
    /// # Errors
    /// `InvalidConfig` if it is there twice.
    pub(crate) fn take(&mut self, name: &'static str) -> Result<Option<String>> {
        let is_it = |(known, _): &mut (String, String)| known == name;
        let mut taken: Vec<_> = self.pairs.extract_if(.., is_it).collect();
        if taken.len() > 1 {
            return Err(misconfigured(format!("the URL has the parameter {name} twice")));
        }
        Ok(taken.pop().map(|(_, value)| value))
    }

    /// Takes a parameter that is a number, a path or whatever can be read from a text.
    ///
    /// # Errors
    /// `InvalidConfig` if it can't be read.
    pub(crate) fn take_as<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let wrong = || misconfigured(format!("the URL's parameter {name} can't be read"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// Takes a parameter that is a length of time, such as `10s`, `1m 30s` or `7d`.
    ///
    /// # Errors
    /// `InvalidConfig` if it is none, or zero.
    pub(crate) fn take_duration(&mut self, name: &'static str) -> Result<Option<Duration>> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let read = parse_duration(&text).ok().filter(|it| !it.is_zero());
        // The text is not shown: it may be a part of a password.
        let wrong = || {
            misconfigured(format!(
                "the URL's parameter {name} must be a length of time, such as 10s, 4h or 7d"
            ))
        };
        read.map(Some).ok_or_else(wrong)
    }

    /// The names of the parameters that nobody has taken.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// The URL with the parameters that nobody has taken, for the driver.
    pub(crate) fn into_url(self) -> Secret {
        if self.pairs.is_empty() {
            return self.base;
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.pairs);
        // Not every driver takes a `+` for a space; one that is meant is `%2B` here.
        let query = query.finish().replace('+', "%20");
        Secret::new(format!("{}?{query}", self.base.expose()))
    }
}

/// Reads a setting that is a length of time, as a text such as `10s`, `1m 30s` or `7d`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads a setting that is a length of time as a text, or nothing.
#[cfg(any(feature = "redis", feature = "mongodb"))]
pub(crate) fn maybe_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text)).transpose().map_err(D::Error::custom)
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_has_no_secret() {
        for (url, shown) in [
            ("postgres://u:p@h:5432/db?sslmode=x", "postgres://h:5432/db"),
            ("mongodb://u:p@a:1,b:2/flows?w=1", "mongodb://a:1,b:2/flows"),
            ("redis://:p@ss/w@h/1#x", "redis://h/1"),
            ("neo4j://h", "neo4j://h"),
            ("redis://:p?ss@h", "redis://…"),
            ("redis://:p#ss@h", "redis://…"),
            ("redis://h?password=p@ss", "redis://…"),
            ("hunter2", "…"),
        ] {
            assert_eq!(location(url), shown);
        }
    }

    #[test]
    fn own_parameters_are_taken_and_the_others_left_to_the_driver() {
        let mut it = Parameters::of("pg://h/d?table=my%20flows&pool_size=3&x=a%26b&wait=1m+30s");
        assert_eq!(it.take("table").unwrap().as_deref(), Some("my flows"));
        assert_eq!(it.take_as::<usize>("pool_size").unwrap(), Some(3));
        assert_eq!(it.take_duration("wait").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(it.take("table").unwrap(), None);
        assert_eq!(it.names().collect::<Vec<_>>(), ["x"]);
        assert_eq!(it.into_url().expose(), "pg://h/d?x=a%26b");
        let spaces = Parameters::of("pg://h/d?x=a%20b+c%2Bd").into_url();
        assert_eq!(spaces.expose(), "pg://h/d?x=a%20b%20c%2Bd");
        assert_eq!(Parameters::of("pg://h/d").into_url().expose(), "pg://h/d");
    }

    #[test]
    fn a_length_of_time_is_spelled_as_it_is_everywhere_else() {
        for (text, seconds) in
            [("10s", 10), ("1m+30s", 90), ("4h", 14_400), ("7d", 604_800), ("PT4H", 14_400)]
        {
            let mut it = Parameters::of(&format!("pg://h/d?t={text}"));
            assert_eq!(
                it.take_duration("t").unwrap(),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
            let setting = serde_json::json!(text.replace('+', " "));
            assert_eq!(duration(&setting).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "0s", "7", "-1s", "1 month", "soon"] {
            let mut it = Parameters::of(&format!("pg://h/d?t={text}"));
            let error = it.take_duration("t").unwrap_err();
            assert!(error.to_string().contains("parameter t must be"), "{error}");
        }
    }

    #[test]
    fn what_may_be_a_part_of_a_password_is_not_taken_for_a_name_that_may_be_shown() {
        for (url, unclear) in [
            ("redis://:p?ss@h/0", true),
            ("redis://:p#ss@h/0", true),
            ("redis://h?prefix=a@b", true),
            ("redis://u:p@h?prefix=a%40b", false),
            ("redis://u:p@h", false),
        ] {
            let said = Parameters::of(url).unclear();
            assert_eq!(said.is_some(), unclear, "{url}");
            assert!(said.is_none_or(|it| it.message().contains("? as %3F")), "{url}");
        }
    }

    #[test]
    #[cfg(any(feature = "postgres", feature = "neo4j"))]
    fn where_the_host_begins_is_beyond_doubt() {
        for (url, clear) in [
            ("pg://u:p@h:5432/db?x=a@b", true),
            ("pg://u:p%40%2F%23@h,i:7/db", true),
            ("pg://%2Frun%2Fpg/db", true),
            ("pg://h", true),
            ("pg://u:p@ss@h/db", false),
            ("pg://u:p/ss@h/db", false),
            ("pg://u:p#ss@h/db", false),
            ("pg://u:p@ss/w@h/db?x=y", false),
            ("pg://h/d@b", false),
        ] {
            let checked = check_credentials(url);
            assert_eq!(checked.is_ok(), clear, "{url}");
            assert!(checked.is_ok() || checked.unwrap_err().message().contains("@ as %40"));
        }
    }

    #[test]
    fn a_wrong_parameter_is_named_and_its_value_is_not_shown() {
        let mut it = Parameters::of("pg://h/d?n=hunter2&t=hunter2&d=1&d=2&z=0s");
        for error in [
            it.take_as::<usize>("n").unwrap_err(),
            it.take_duration("t").unwrap_err(),
            it.take("d").unwrap_err(),
            it.take_duration("z").unwrap_err(),
        ] {
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
