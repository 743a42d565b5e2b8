//! What is measured, and for how long.

use std::path::PathBuf;

use crate::Result;

/// What `--help` prints.
const HELP: &str = "\
Measures dynamic-flow, each store against its floor, and prints one table.

Usage: cargo xtask bench -- [OPTIONS]

  --quick          Seconds in place of minutes: fewer iterations, fewer parked runs
  --only SECTION   This section alone; may be given several times:
                   memory, file, sqlite, postgres, redis, mongodb, neo4j,
                   codec, steps, parked, program
  --parked N       How many runs are parked [100000; 2000 with --quick]
  --dir DIR        Makes its folder bench-data there, on a real disk [target]
  --help           Prints this

Databases are measured where DFLOW_TEST_POSTGRES_URL and its like say that they are:
`cargo xtask services` starts them.
";

/// The sections, in the order of the table.
const SECTIONS: [&str; 11] = [
    "memory", "file", "sqlite", "postgres", "redis", "mongodb", "neo4j", "codec", "steps",
    "parked", "program",
];

/// The command line, read.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) quick: bool,
    pub(crate) parked: usize,
    pub(crate) dir: PathBuf,
    only: Vec<String>,
}

impl Args {
    /// Reads the command line; none where help was asked for and printed.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut words = words.into_iter();
        let (mut quick, mut parked, mut dir, mut only) = (false, None, None, Vec::new());
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("`{word}` needs a value; see --help"));
            match word.as_str() {
                // Cargo says it to every benchmark.
                "--bench" => {}
                "--quick" => quick = true,
                "--parked" => parked = Some(value()?.parse()?),
                "--dir" => dir = Some(PathBuf::from(value()?)),
                "--only" => only.push(value()?),
                "--help" | "-h" => {
                    print!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(format!("`{word}` is no option; see --help").into()),
            }
        }
        if let Some(unknown) = only.iter().find(|section| !SECTIONS.contains(&section.as_str())) {
            return Err(format!("`{unknown}` is no section; there are {SECTIONS:?}").into());
        }
        let parked = parked.unwrap_or(if quick { 2_000 } else { 100_000 });
        // A folder of its own: it is emptied.
        let dir = dir.unwrap_or_else(|| workspace().join("target")).join("bench-data");
        Ok(Some(Self { quick, parked, dir, only }))
    }

    /// Whether a section is wanted.
    pub(crate) fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == section)
    }

    /// One number for a quick look, another for a table that is worth keeping.
    pub(crate) fn pick(&self, quick: usize, thorough: usize) -> usize {
        if self.quick { quick } else { thorough }
    }
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}
