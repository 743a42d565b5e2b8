//! Tells what servers are doing, to who waits for them.

use std::time::Duration;

use dynamic_flow_services::Kind;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// What is told of all servers.
#[derive(Debug)]
pub(super) struct Progress(Option<MultiProgress>);

/// What is told of one.
#[derive(Debug)]
pub(super) struct Task {
    kind: Kind,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A line for each, kept up to date, where standard error is a terminal; lines one after the
    /// other elsewhere.
    pub(super) fn on_terminal() -> Self {
        let bars = MultiProgress::new();
        Self((!bars.is_hidden()).then_some(bars))
    }

    /// Lines one after the other, where somebody else prints, too.
    pub(super) fn in_lines() -> Self {
        Self(None)
    }

    pub(super) fn begin(&self, kind: Kind) -> Task {
        let bar = self.0.as_ref().map(|bars| {
            let style = "{spinner:.cyan} {prefix:13} {msg}  {elapsed:.dim}";
            let style = ProgressStyle::with_template(style).expect("the template is well formed");
            let bar = bars.add(ProgressBar::new_spinner().with_style(style));
            bar.set_prefix(kind.name());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Task { kind, bar }
    }
}

impl Task {
    pub(super) fn says(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("-- {}: {what}", self.kind),
        }
    }

    /// Says the last thing.
    pub(super) fn ends(&self, what: &str) {
        match &self.bar {
            Some(bar) => {
                let style = ProgressStyle::with_template("  {prefix:13} {msg}");
                bar.set_style(style.expect("the template is well formed"));
                bar.finish_with_message(what.to_owned());
            }
            None => eprintln!("-- {}: {what}", self.kind),
        }
    }
}
