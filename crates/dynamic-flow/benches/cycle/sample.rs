//! Samples and what is made of them; the process's own CPU time and memory.

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use crate::Result;

/// The middle one; half of those measured took longer.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// So many of a hundred took this long, or less.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Two things that were measured in turns, a batch of the one and then a batch of the other.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    floors: Vec<Duration>,
    measured: Vec<Duration>,
}

impl Pairs {
    pub(crate) fn push(&mut self, floor: Duration, measured: Duration) {
        self.floors.push(floor);
        self.measured.push(measured);
    }

    pub(crate) fn floor(&self) -> Duration {
        median(&self.floors)
    }

    pub(crate) fn measured(&self) -> Duration {
        median(&self.measured)
    }

    /// The ratio of the medians.
    pub(crate) fn ratio(&self) -> f64 {
        self.measured().as_secs_f64() / self.floor().as_secs_f64()
    }

    /// The ratio with that of the best and the worst batch.
    pub(crate) fn ratios(&self) -> String {
        let each = self.measured.iter().zip(&self.floors);
        let mut each: Vec<f64> = each.map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
        each.sort_unstable_by(f64::total_cmp);
        let (low, high) = (each.first().unwrap_or(&0.0), each.last().unwrap_or(&0.0));
        format!("{:.2} ({low:.2}–{high:.2})", self.ratio())
    }
}

/// How much CPU all threads of this process have used so far, those that have ended too: user and
/// system time of `/proc/self/stat`, which Linux counts in hundredths of a second.
pub(crate) fn cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program, which may hold anything, is in parentheses before the numbers.
    let numbers = stat.rsplit_once(')').map(|(_, numbers)| numbers).unwrap_or_default();
    let field = |n: usize| -> Result<u64> {
        Ok(numbers.split_whitespace().nth(n).ok_or("/proc/self/stat is short")?.parse()?)
    };
    Ok(Duration::from_millis(10 * (field(11)? + field(12)?)))
}

/// How much memory of this process is in the machine's, in bytes.
pub(crate) fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("/proc/self/status has no VmRSS")?
        .parse()?;
    Ok(kib * 1024)
}

/// The machine that is measured on, and the disk.
pub(crate) fn machine(dir: &std::path::Path) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("?", |(_, model)| model);
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    let kernel = kernel.trim();
    let dir = dir.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    let kind = mount.map_or("?", |(_, kind)| kind);
    let sync = super::table::time(fsync(&dir)?);
    Ok(format!(
        "{cores} cores ({model}), Linux {kernel}, data on {kind} where an fsync takes {sync}, load at \
         start {load}"
    ))
}

/// How long the disk takes to make 4 KiB more of a file durable.
fn fsync(dir: &std::path::Path) -> Result<Duration> {
    let path = dir.join("fsync");
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..50 {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    fs::remove_file(&path)?;
    Ok(median(&times))
}
