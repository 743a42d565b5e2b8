//! Time as integer milliseconds, and the clock that tells it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

/// A point in time: whole milliseconds since the Unix epoch, UTC.
///
/// Serialized as the integer; displayed and parsed in RFC 3339.
///
/// ```
/// use dynamic_flow::Timestamp;
/// let t: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
/// assert_eq!(t.as_millis(), 1_795_420_800_000);
/// assert_eq!(t.to_string(), "2026-11-23T08:00:00Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point that many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The point `duration` later; sub-millisecond parts are dropped, the far future saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The point `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The same point as the standard library has it; none beyond what that can say.
    ///
    /// ```
    /// use std::time::SystemTime;
    ///
    /// use dynamic_flow::Timestamp;
    ///
    /// let noon: Timestamp = "2026-11-23T12:00:00Z".parse()?;
    /// let time: SystemTime = noon.to_system_time().expect("a time like others");
    /// assert_eq!(Timestamp::from(time), noon);
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_millis(self.0.unsigned_abs());
        match self.0 < 0 {
            true => UNIX_EPOCH.checked_sub(distance),
            false => UNIX_EPOCH.checked_add(distance),
        }
    }

    /// How long it is from `self` until `later`; zero when that has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let timestamp: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| {
            Error::new(
                ErrorKind::InvalidArgument,
                "not an RFC 3339 time such as 2026-11-23T08:00:00Z",
            )
            .with_source(error)
        })?;
        Ok(Self(timestamp.as_millisecond()))
    }
}

/// What is finer than a millisecond is dropped; what no `Timestamp` can say is the nearest that it can.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let epoch = Self(0);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => epoch.after(since),
            Err(error) => epoch.before(error.duration()),
        }
    }
}

/// Tells the time and waits for it; [`SystemClock`] in production, a manual one in tests.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Ends when `at` has come.
    fn sleep_until(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn sleep_until(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        (**self).sleep_until(at)
    }
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    fn sleep_until(&self, at: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            // A long sleep is cut: a suspended laptop or a corrected clock is noticed within a minute.
            loop {
                let left = self.now().until(at);
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(60))).await;
            }
        })
    }
}

/// So many seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many minutes.
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// So many hours.
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60 * 60))
}

/// So many days of 24 hours.
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(24 * 60 * 60))
}
