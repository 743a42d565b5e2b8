//! The table: a row for each number, with its target and whether that is met.

use std::{fmt, time::Duration};

/// What is told of one measurement.
#[derive(Debug, Default)]
pub(crate) struct Row {
    what: String,
    measured: String,
    floor: String,
    ratio: String,
    target: String,
    verdict: &'static str,
    n: String,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, measured: impl fmt::Display) -> Self {
        Self { what: what.into(), measured: measured.to_string(), ..Self::default() }
    }

    pub(crate) fn floor(mut self, floor: impl fmt::Display) -> Self {
        self.floor = floor.to_string();
        self
    }

    pub(crate) fn ratio(mut self, ratio: impl fmt::Display) -> Self {
        self.ratio = ratio.to_string();
        self
    }

    pub(crate) fn target(mut self, target: impl fmt::Display, met: bool) -> Self {
        self.target = target.to_string();
        self.verdict = if met { "met" } else { "MISSED" };
        self
    }

    pub(crate) fn n(mut self, n: impl fmt::Display) -> Self {
        self.n = n.to_string();
        self
    }

    fn cells(&self) -> [&str; 7] {
        [&self.what, &self.measured, &self.floor, &self.ratio, &self.target, self.verdict, &self.n]
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// Adds a row, and tells it at once to who watches.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("  {}: {} {} {}", row.what, row.measured, row.ratio, row.verdict);
        self.0.push(row);
    }

    /// Adds all rows of another one.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "measured", "floor", "ratio (min–max)", "target", "", "iterations"];
        let rows = || std::iter::once(head).chain(self.0.iter().map(Row::cells));
        let mut widths = [0; 7];
        for row in rows() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (index, row) in rows().enumerate() {
            for (width, cell) in widths.iter().zip(row) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                for width in widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// A time in the unit that suits it.
pub(crate) fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        _ if micros < 100.0 => format!("{micros:.1} µs"),
        _ if micros < 10_000.0 => format!("{micros:.0} µs"),
        _ => format!("{:.1} ms", micros / 1e3),
    }
}
