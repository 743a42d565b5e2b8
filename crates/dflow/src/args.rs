//! The command line as it is typed; [`crate::context`] makes of it what is meant.
//!
//! None of these types is `Debug`: a suspension key may be among them.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use clap_complete::Shell;
use dynamic_flow::{RunId, RunStatus};

use crate::words::{self, Moment, Pair};

const AFTER_HELP: &str = "\
Examples:
  dflow run examples/purchase-approval.yaml --input @examples/order.json
  dflow resume -                       (asks for the key, and for the answer)
  dflow list --status waiting --expires-before 2h

Exit codes:
    0 completed, or done
   10 suspended
   11 rejected
    1 failed
    2 wrong command line, settings or document
    3 key unknown, expired or already answered
    4 input does not fit the schema
    5 trouble with the store or with what is in it
  130 interrupted, or a question was not answered";

/// Runs flows that stop for outside input, and resumes them.
#[derive(Parser)]
#[command(name = "dflow", version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(propagate_version = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Group)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where runs are kept: file:FOLDER, sqlite:FILE, or the URL of a server, postgres://…,
    /// redis://…, mongodb://… or neo4j://…; put a URL with a password in the environment instead.
    /// Only `run` and `work` make a store that is not there
    /// [env: DFLOW_STORE] [settings: [store]] [default: file:./.suspended-flows]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// File with settings for the store, the hub, http and keys [env: DFLOW_CONFIG] [default: ./dflow.toml, if
    /// it is there; refused if somebody else may have written it]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print results as JSON on standard output and errors as JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log to standard error what happens; never keys, inputs or outputs
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Resume(Resume),
    List(List),
    Show(Show),
    Answer(Answer),
    Reissue(Reissue),
    Cancel(Cancel),
    Retry(OneRun),
    Cleanup(Cleanup),
    Work(Work),
    Keygen(Keygen),
    RotateKeys(RotateKeys),
    Check(FlowFile),
    Upgrade(Upgrade),
    Diagram(Diagram),
    Tools(Tools),
    Schema(Schema),
    Doctor(Doctor),
    Completions(Completions),
}

impl Command {
    /// Whether what it does depends on the settings.
    pub(crate) fn needs_settings(&self) -> bool {
        use Command::{Completions, Diagram, Keygen, Schema};
        !matches!(self, Keygen(_) | Diagram(_) | Schema(_) | Completions(_))
    }
}

/// Run a flow until it is parked or has ended
///
/// When it stops for input, its suspension key is printed once: whoever has it can answer, from
/// any machine that reaches the store. Nothing keeps running meanwhile. Makes the store if it is not
/// there.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow run examples/purchase-approval.yaml --input @examples/order.json
  echo '{\"id\": 7}' | dflow run flow.yaml --input - --metadata team=finance --json
  dflow run flow.yaml --input @order.json --run-id 2026-11-23/PO-2048
  dflow run flow.yaml                  (asks for the input on a terminal, if the document's `input`
                                        does not take null)")]
pub(crate) struct Run {
    /// The flow: a YAML or JSON document, or - to read it from standard input
    pub(crate) flow: PathBuf,
    #[command(flatten)]
    pub(crate) input: Input,
    /// A value by which `dflow list` can find the run; stored unsealed. May be given several times.
    /// true, false and numbers as JSON writes them (1, -7, 1.5) are typed; all else is text, as it
    /// stands (01234, +49, 1e3), and so is "1" in quotes
    #[arg(long, visible_alias = "meta", value_name = "NAME=VALUE", value_parser = words::pair)]
    pub(crate) metadata: Vec<Pair>,
    /// Start this run once: the same id again starts nothing, and prints what that run has come to, for
    /// as long as it is kept (7 days from its end by default); later it starts the run anew. A
    /// UUIDv7, or time and name of what the run is for, of which one is made: 2026-11-23/PO-2048. The
    /// run counts as created at that time, from 1970 on and at most a day ahead. While another process
    /// drives it, this waits
    #[arg(long, value_name = "UUID|TIME/NAME", value_parser = words::chosen_run)]
    pub(crate) run_id: Option<RunId>,
}

#[derive(Group)]
pub(crate) struct Input {
    /// JSON, or @FILE to read it from a file, or - to read it from standard input
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    #[arg(allow_hyphen_values = true, value_parser = words::input)]
    pub(crate) input: Option<String>,
}

/// Answer a wait and continue the run right after it
///
/// Without --input it shows the question and asks for the answer, field by field.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow resume -                       (asks for the key, and for the answer)
  pass show approval-key | dflow resume - --input @answer.json --by jane@example.com
  read -rs DFLOW_KEY; export DFLOW_KEY
  dflow resume --input @answer.json --request-id req-17

A key on the command line stays in the shell's history, and anyone who lists processes can see
it.")]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) given: Given,
}

/// Accept the answer to a wait, and let a worker continue the run
///
/// Like `dflow resume`, but it returns as soon as the answer is durable; see `dflow work`.
#[derive(Group)]
#[command(after_help = "\
Examples:
  pass show approval-key | dflow answer - --input '{\"approved\": true, \"approved_by\": \"Jane\"}'
  read -rs DFLOW_KEY; export DFLOW_KEY
  dflow answer --input @answer.json --request-id req-17")]
pub(crate) struct Answer {
    #[command(flatten)]
    pub(crate) given: Given,
}

#[derive(Group)]
pub(crate) struct Given {
    /// The suspension key, or - to read it from the first line of standard input [env: DFLOW_KEY]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Who answers, for the receipt
    #[arg(long, value_name = "NAME", value_parser = words::said)]
    pub(crate) by: Option<String>,
    /// Identifies the request: the same id and input again is reported as accepted, not refused
    #[arg(long, value_name = "ID", value_parser = words::said)]
    pub(crate) request_id: Option<String>,
}

/// List runs, newest first
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow list --status waiting --tool manager-approval
  dflow list --metadata department=radiology --created-after 7d --limit 20
  dflow list --expires-before 2h --json | jq -r '.items[].run_id'

A time is RFC 3339 (2026-11-23T08:00:00Z), a date (2026-11-23) for midnight UTC, or relative:
2h means two hours ago for --created-… and two hours from now for --expires-….")]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: RunFilter,
    /// The largest number of runs to list
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Continue after an earlier page: its next_cursor
    #[arg(long, value_name = "CURSOR", value_parser = words::run)]
    pub(crate) cursor: Option<RunId>,
}

#[derive(Group, Default)]
#[command(next_help_heading = "Filters (all given ones must hold)")]
pub(crate) struct RunFilter {
    /// Only runs with this status; may be given several times
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str)))]
    pub(crate) status: Vec<String>,
    /// Only runs of this flow
    #[arg(long = "flow", value_name = "ID")]
    pub(crate) flow_id: Option<String>,
    /// Only runs with an open wait of this tool
    #[arg(long, value_name = "ID")]
    pub(crate) tool: Option<String>,
    /// Only runs with this metadata, typed as for `dflow run`: true, 1 and 1.5 are a boolean and
    /// numbers, 01234, +49, 1e3 and "1" in quotes are text
    #[arg(long, visible_alias = "meta", value_name = "NAME=VALUE", value_parser = words::pair)]
    pub(crate) metadata: Vec<Pair>,
    /// Only runs created at this time or later
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) created_after: Option<Moment>,
    /// Only runs created before this time
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) created_before: Option<Moment>,
    /// Only runs with an open wait that expires at this time or later
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) expires_after: Option<Moment>,
    /// Only runs with an open wait that expires before this time
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) expires_before: Option<Moment>,
}

/// Show a run: where it stands, what it waits for and what has been answered
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow show RUN
  dflow show RUN --format mermaid      (the diagram as Mermaid text)
  timeout 1h dflow show RUN --wait --json")]
pub(crate) struct Show {
    /// The run's id, as `dflow list` shows it
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
    /// How to draw its flow, with the parked position marked
    #[arg(long, value_enum, default_value_t = ShowFormat::Tree)]
    pub(crate) format: ShowFormat,
    /// Wait until it has ended, and exit as `dflow run` does: with 0 if it has completed, 11 if it was
    /// rejected, 1 if it has failed, expired or was cancelled. Continues nothing; see `dflow work`
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowFormat {
    Tree,
    Mermaid,
    Dot,
}

/// Make another key for an open wait whose key was lost
///
/// Earlier keys stay valid; the wait still takes only one answer.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow reissue RUN
  dflow reissue RUN 'manager-approval#1'      (where the run has several open waits)")]
pub(crate) struct Reissue {
    /// The run's id
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
    /// The wait's id; optional if the run has only one open wait
    pub(crate) wait: Option<String>,
}

/// Cancel a run: its waits take no more answers
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow cancel RUN --by jane --reason 'ordered twice'")]
pub(crate) struct Cancel {
    /// The run's id
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
    /// Who cancels it
    #[arg(long, value_name = "NAME", value_parser = words::said)]
    pub(crate) by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = words::said)]
    pub(crate) reason: Option<String>,
}

/// Continue a failed or expired run from the step that failed
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow retry RUN")]
pub(crate) struct OneRun {
    /// The run's id
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
}

/// Remove runs
///
/// All given criteria must hold. A run that somebody is driving is never removed, one that a worker goes
/// on with next (it was answered, or let go in the middle) only with --status ready, and one whose
/// process has died only with --status running; how many runs were left for those reasons is reported.
/// On a terminal it asks first, except with --json; where it does not ask, --all needs --yes or --dry-run.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow cleanup --expired --dry-run
  dflow cleanup --older-than 30d --status completed,rejected --yes
  dflow cleanup --all --yes")]
pub(crate) struct Cleanup {
    /// Only what has expired; deadlines that have passed take effect first, which may run steps
    #[arg(long)]
    pub(crate) expired: bool,
    /// Only runs last written before this time: RFC 3339, a date, or 30d for 30 days ago
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) older_than: Option<Moment>,
    /// Every run; required if there is no other criterion
    #[arg(long)]
    pub(crate) all: bool,
    /// Only report what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask first
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) filter: RunFilter,
}

/// Work in the background: fire timers, continue answered runs, take over crashed ones
///
/// Any number of workers may share a store, which is made if it is not there. It continues runs of
/// documents; a flow in Rust needs a program that registers it. Ctrl-C ends it once the steps in
/// progress are committed, after 10 seconds at the latest; pressed again, it ends at once. Where steps
/// were left in the middle it exits with 130, and their runs are taken over when their leases have
/// lapsed.
/// A run that could not be continued stays as it was: other workers are offered it at once, this one
/// a second later, then ever later, up to a minute. With --once it then exits with 5. Without --once,
/// --json says null of `purged`: ended runs are removed from time to time, and not counted.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow work
  dflow work --once                    (does what is due now and ends; for cron)")]
pub(crate) struct Work {
    /// Do what is due now and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// Make an encryption key
#[derive(Group)]
#[command(after_help = "\
Example:
  export FLOW_ENCRYPTION_KEY=$(dflow keygen)

To rotate: give OLD,NEW to every process, then NEW,OLD, then run `dflow rotate-keys`, and once that
exits with 0 leave OLD out.")]
pub(crate) struct Keygen {}

/// Reseal every run with the active key
///
/// FLOW_ENCRYPTION_KEY=NEW,OLD: the first key seals, all of them open. Every process that answers or
/// works must have both before. Can be interrupted at any time and continued with --cursor. Exits
/// with 5 where a run could not be opened or is being driven: the old key is still needed then. A call
/// with --cursor counts only the runs after that: before the old key is left out, one without it must
/// exit with 0. What is resealed already is only looked at.
#[derive(Group)]
#[command(after_help = "\
Examples:
  FLOW_ENCRYPTION_KEY=$NEW,$OLD dflow rotate-keys
  dflow rotate-keys --cursor CURSOR    (continues where an earlier call stopped)")]
pub(crate) struct RotateKeys {
    /// Continue after this run
    #[arg(long, value_name = "CURSOR", value_parser = words::run)]
    pub(crate) cursor: Option<RunId>,
    /// How many runs to read at once
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) page: u16,
}

/// Report, before a deploy, which runs could not continue with a flow
///
/// Reports runs that have failed or expired separately: those that `dflow retry` could continue with
/// the flow, and those that it could not. Exits with 1 if a run that has not ended would be stranded,
/// with 2 if the document itself is wrong, with 5 if a run can't be opened or the store that was named
/// is not there. If none was named and the default is not there, it says so and exits with 0: name it in
/// a deploy.
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow check examples/purchase-approval.yaml && deploy")]
pub(crate) struct FlowFile {
    /// The flow: a YAML or JSON document, or - to read it from standard input
    pub(crate) flow: PathBuf,
}

/// Move parked, answered, failed and expired runs to a newer document
///
/// Compares first, shows the differences, and moves only runs that can continue with it. What is
/// asked already stays as it was asked; what has failed or expired continues once it is retried. Exits
/// with 1 if a run was refused, with 5 if one is missing or can't be opened; it stays as it was.
#[derive(Group)]
#[command(override_usage = "\
dflow upgrade [OPTIONS] <FLOW> <RUNS>...
       dflow upgrade [OPTIONS] --all <FLOW>")]
#[command(after_help = "\
Examples:
  dflow upgrade flow.yaml --all --dry-run
  dflow upgrade flow.yaml RUN RUN
  dflow upgrade flow.yaml RUN && dflow retry RUN        (after a mistake in the document)")]
pub(crate) struct Upgrade {
    /// The newer flow: a YAML or JSON document, or - to read it from standard input
    pub(crate) flow: PathBuf,
    /// The runs to move
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = words::run)]
    pub(crate) runs: Vec<RunId>,
    /// Every parked, answered, failed and expired run of the flow
    #[arg(long)]
    pub(crate) all: bool,
    /// Only report what would be moved
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Draw a flow
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow diagram examples/purchase-approval.yaml
  dflow diagram flow.yaml --format dot | dot -Tsvg > flow.svg")]
pub(crate) struct Diagram {
    /// The flow: a YAML or JSON document, or - to read it from standard input
    pub(crate) flow: PathBuf,
    /// The language of the diagram
    #[arg(long, value_enum, default_value_t = DiagramFormat::Mermaid)]
    pub(crate) format: DiagramFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiagramFormat {
    Mermaid,
    Dot,
}

/// List the tools that documents may call, with their inputs and outputs
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow tools
  dflow tools http                     (one tool with its schemas)")]
pub(crate) struct Tools {
    /// Show this tool with its schemas
    pub(crate) tool: Option<String>,
}

/// Print the JSON Schema of documents, or of the --json output
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow schema document > flow.schema.json     (for editors)
  dflow schema output")]
pub(crate) struct Schema {
    /// Which schema
    #[arg(value_enum)]
    pub(crate) of: SchemaOf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// YAML and JSON documents of flows
    Document,
    /// What every subcommand prints with --json
    Output,
}

/// Check the store and the settings, and report in plain words
///
/// Exits with 5 if something is broken; warnings alone do not change the exit code.
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow doctor --store sqlite:flows.db")]
pub(crate) struct Doctor {}

/// Print a completion script for a shell
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow completions bash > ~/.local/share/bash-completion/completions/dflow")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
