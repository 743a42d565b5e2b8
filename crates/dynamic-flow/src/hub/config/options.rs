//! The settings of a hub that are plain data.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    Error, ErrorKind, Result,
    clock::{days, hours, seconds},
    codec::{Codec, Compression},
    engine::host::Durability,
};

/// The settings of a hub that are plain data.
///
/// Written as a table of settings, with durations as texts:
///
/// ```
/// use dynamic_flow::{hours, hub::HubOptions};
///
/// let options: HubOptions =
///     serde_json::from_str(r#"{ "default_timeout": "4h", "retention": "forever" }"#).unwrap();
/// assert_eq!(options.default_timeout, hours(4));
/// assert_eq!((options.retention, options.lease), (None, HubOptions::default().lease));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HubOptions {
    /// How long a wait stays open that does not say so itself; 1 ms or more.
    #[serde(serialize_with = "time::write", deserialize_with = "time::read_some")]
    pub default_timeout: Duration,
    /// How often a worker removes ended runs whose retention is over.
    #[serde(serialize_with = "time::write", deserialize_with = "time::read")]
    pub cleanup_interval: Duration,
    /// How often an operation is tried again after a passing fault of the store.
    pub max_retries: u32,
    /// The pause before the first of those tries; it doubles, with jitter.
    #[serde(serialize_with = "time::write", deserialize_with = "time::read")]
    pub retry_delay: Duration,
    /// How long an ended run is kept, with its receipts; forever if none, which is written `forever`.
    /// Fixed when a run ends, by the hub that ends it.
    #[serde(serialize_with = "time::write_or_forever", deserialize_with = "time::read_or_forever")]
    pub retention: Option<Duration>,
    /// How long a holder keeps a run without renewing its lease; 10 ms or more.
    #[serde(serialize_with = "time::write", deserialize_with = "time::read_lease")]
    pub lease: Duration,
    /// After how many takeovers without progress a run is failed as poisoned; 1 or more.
    #[serde(deserialize_with = "read_count")]
    pub max_takeovers: u32,
    /// The longest sleep, or pause between attempts, that is waited out in the process instead of
    /// parking the run.
    #[serde(serialize_with = "time::write", deserialize_with = "time::read")]
    pub linger: Duration,
    /// When runs are committed beyond their waits.
    pub durability: Durability,
    /// The largest input of a run or an answer, in bytes of JSON.
    pub max_input_size: usize,
    /// The largest state of a run, in bytes of JSON.
    pub max_state_size: usize,
    /// How state is compressed, before it is sealed.
    pub compression: Compression,
    /// How often a worker looks for due runs; 1 ms or more.
    #[serde(serialize_with = "time::write", deserialize_with = "time::read_some")]
    pub poll_interval: Duration,
    /// How many runs a worker drives at once; 1 or more.
    #[serde(deserialize_with = "read_count")]
    pub concurrency: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            default_timeout: hours(24),
            cleanup_interval: hours(1),
            max_retries: 3,
            retry_delay: seconds(1),
            retention: Some(days(7)),
            lease: seconds(30),
            max_takeovers: 5,
            linger: seconds(10),
            durability: Durability::Suspensions,
            max_input_size: 1024 * 1024,
            max_state_size: Codec::DEFAULT_MAX_STATE_SIZE,
            compression: Compression::default(),
            poll_interval: seconds(1),
            concurrency: 64,
        }
    }
}

impl HubOptions {
    /// Refuses settings that can't work.
    ///
    /// # Errors
    /// `InvalidConfig` naming the setting.
    pub(super) fn check(&self) -> Result<()> {
        let checked = [
            ("lease", some_lease(self.lease).err()),
            ("default_timeout", some_time(self.default_timeout).err()),
            ("concurrency", some_count(self.concurrency).err()),
            ("poll_interval", some_time(self.poll_interval).err()),
            ("max_takeovers", some_count(self.max_takeovers).err()),
        ];
        match checked.into_iter().find_map(|(name, wrong)| Some((name, wrong?))) {
            Some((name, wrong)) => {
                Err(Error::new(ErrorKind::InvalidConfig, format!("{name} {wrong}")))
            }
            None => Ok(()),
        }
    }
}

/// A duration that is more than nothing. Points in time are whole milliseconds, and what is finer is
/// dropped: it would be no pause at all.
fn some_time(time: Duration) -> Result<Duration, &'static str> {
    if time < Duration::from_millis(1) { Err("must be 1 ms or more") } else { Ok(time) }
}

/// A lease that can be renewed in time.
fn some_lease(lease: Duration) -> Result<Duration, &'static str> {
    if lease < Duration::from_millis(10) { Err("must be 10 ms or more") } else { Ok(lease) }
}

fn some_count<T: Default + PartialEq>(count: T) -> Result<T, &'static str> {
    if count == T::default() { Err("must be 1 or more") } else { Ok(count) }
}

/// Reads what [`HubOptions::check`] would refuse with an error that has its place in the file.
fn read_count<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    some_count(T::deserialize(from)?).map_err(|wrong| de::Error::custom(format_args!("it {wrong}")))
}

/// Durations as people write them, to the millisecond: `24h`, `1m 30s`.
mod time {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use super::{some_lease, some_time};
    use crate::flow::parse_duration;

    const FOREVER: &str = "forever";

    pub(super) fn write<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        // None is read that is longer, or finer.
        let duration = (*it).min(crate::days(36_500));
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        to.serialize_str(&format!("{:#}", SignedDuration::from_millis(millis)))
    }

    pub(super) fn write_or_forever<S: Serializer>(
        it: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match it {
            Some(duration) => write(duration, to),
            None => to.serialize_str(FOREVER),
        }
    }

    pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map_err(|error| D::Error::custom(error.message()))
    }

    pub(super) fn read_some<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        some_time(read(from)?).map_err(|wrong| D::Error::custom(format_args!("it {wrong}")))
    }

    pub(super) fn read_lease<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        some_lease(read(from)?).map_err(|wrong| D::Error::custom(format_args!("a lease {wrong}")))
    }

    /// A duration, or none: `forever`, or nothing where a format can say that.
    pub(super) fn read_or_forever<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(from)?.as_deref() {
            None | Some(FOREVER) => Ok(None),
            Some(text) => parse_duration(text).map(Some).map_err(|error| {
                D::Error::custom(format_args!("{}, or `{FOREVER}`", error.message()))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_as_they_were_written() {
        let mut options = HubOptions::default();
        for retention in [None, Some(days(30))] {
            options.retention = retention;
            options.poll_interval = Duration::from_millis(1500);
            options.compression = Compression::None;
            let written = serde_json::to_string(&options).unwrap();
            assert_eq!(serde_json::from_str::<HubOptions>(&written).unwrap(), options, "{written}");
        }
        let none: HubOptions = serde_json::from_str(r#"{ "retention": null }"#).unwrap();
        assert_eq!(none.retention, None);
    }

    #[test]
    fn settings_that_can_not_work_are_refused_where_they_are_read() {
        for (text, told) in [
            (r#"{ "lease": "9ms" }"#, "a lease must be 10 ms or more at line 1"),
            (r#"{ "default_timeout": "0s" }"#, "it must be 1 ms or more at line 1"),
            (r#"{ "poll_interval": "999us" }"#, "\"999us\" has a part of a millisecond"),
            (r#"{ "concurrency": 0 }"#, "it must be 1 or more at line 1"),
            (r#"{ "max_takeovers": 0 }"#, "it must be 1 or more at line 1"),
            (r#"{ "retention": "never" }"#, "or PT4H, or `forever` at line 1"),
            (r#"{ "laese": "1m" }"#, "unknown field `laese`, expected one of"),
        ] {
            let error = serde_json::from_str::<HubOptions>(text).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
