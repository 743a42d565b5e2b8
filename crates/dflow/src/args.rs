//! The command line as it is typed; [`crate::context`] makes of it what is meant.
//!
//! None of these types is `Debug`: a suspension key may be among them.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use clap_complete::Shell;
use dynamic_flow::{RunId, engine::RunStatus};

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
    2 usage, or a wrong document
    3 key unknown, expired or already answered
    4 input does not fit
    5 store or state trouble
  130 interrupted, or a question was left";

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
    /// redis://…, mongodb://… or neo4j://…; one with a password is better kept in the environment
    /// [env: DFLOW_STORE] [default: file:./.suspended-flows]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// Settings of the store, the hub, http and keys [env: DFLOW_CONFIG] [default: ./dflow.toml, if
    /// it is there and nobody else may have written it]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print results as JSON on standard output and errors as JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tell on standard error what is going on; never keys, inputs or outputs
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

/// Run a flow until it is parked or has ended
///
/// When it stops for input, its suspension key is printed once: whoever has it can answer, from
/// any machine that reaches the store. Nothing keeps running meanwhile.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow run examples/purchase-approval.yaml --input @examples/order.json
  echo '{\"id\": 7}' | dflow run flow.yaml --input - --metadata team=finance --json
  dflow run flow.yaml                  (asks for the input, field by field, on a terminal)")]
pub(crate) struct Run {
    /// The flow: a YAML or JSON document, or - to read it from standard input
    pub(crate) flow: PathBuf,
    #[command(flatten)]
    pub(crate) input: Input,
    /// A plain value to find the run by; stored unsealed. May be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = words::pair)]
    pub(crate) metadata: Vec<Pair>,
}

#[derive(Group)]
pub(crate) struct Input {
    /// JSON, or @FILE to read it from a file, or - to read it from standard input
    #[arg(long, short, value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    pub(crate) input: Option<String>,
}

/// Answer a wait and go on exactly after it
///
/// Without --input it shows what is asked and asks for the answer, field by field.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow resume -                       (asks for the key, and for the answer)
  pass show approval-key | dflow resume - --input @answer.json --by jane@example.com
  read -rs DFLOW_KEY; export DFLOW_KEY
  dflow resume --input @answer.json --request-id req-17

A key that is typed on the command line stays in the shell's history, and whoever lists processes
sees it.")]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) given: Given,
}

/// Accept the answer to a wait, and leave going on to a worker
///
/// As `dflow resume`, but it returns as soon as the answer is durable; see `dflow work`.
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
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Makes a repeated request recognisable: the same id again is told that it was accepted
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
}

/// List runs, newest first
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow list --status waiting --tool manager-approval
  dflow list --meta department=radiology --created-after 7d --limit 20
  dflow list --expires-before 2h --json | jq -r '.items[].run_id'

Times are RFC 3339 (2026-11-23T08:00:00Z), a date for its midnight UTC (2026-11-23), or relative:
2h is two hours ago for --created-…, and in two hours for --expires-….")]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: RunFilter,
    /// How many at the most
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Go on after an earlier page: its next_cursor
    #[arg(long, value_name = "CURSOR", value_parser = words::run)]
    pub(crate) cursor: Option<RunId>,
}

#[derive(Group, Default)]
#[command(next_help_heading = "Filters (all that are given must hold)")]
pub(crate) struct RunFilter {
    /// Only runs of that status; may be given several times
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str)))]
    pub(crate) status: Vec<String>,
    /// Only runs of that flow
    #[arg(long = "flow", value_name = "ID")]
    pub(crate) flow_id: Option<String>,
    /// Only runs with an open wait of that tool
    #[arg(long, value_name = "ID")]
    pub(crate) tool: Option<String>,
    /// Only runs with that metadata: true, 1 and 1.5 are typed, "1" in quotes is a text
    #[arg(long, value_name = "NAME=VALUE", value_parser = words::pair)]
    pub(crate) meta: Vec<Pair>,
    /// Only runs created at that time or later
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) created_after: Option<Moment>,
    /// Only runs created before that time
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) created_before: Option<Moment>,
    /// Only runs with an open wait that expires at that time or later
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) expires_after: Option<Moment>,
    /// Only runs with an open wait that expires before that time
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) expires_before: Option<Moment>,
}

/// Show a run: where it stands, what it waits for, what was answered
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow show 019a…
  dflow show 019a… --format mermaid    (the diagram as Mermaid text)")]
pub(crate) struct Show {
    /// The run's id, as `dflow list` shows it
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
    /// How its flow is drawn, with the parked position marked
    #[arg(long, value_enum, default_value_t = ShowFormat::Tree)]
    pub(crate) format: ShowFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowFormat {
    Tree,
    Mermaid,
    Dot,
}

/// Make a new key for an open wait, when the first was lost
///
/// Earlier keys stay good; one answer is taken all the same.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow reissue 019a…
  dflow reissue 019a… 'manager-approval#1'    (where the run has several open waits)")]
pub(crate) struct Reissue {
    /// The run's id
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
    /// The wait's id; may be left out where the run has one
    pub(crate) wait: Option<String>,
}

/// Cancel a run: its waits take no answers any more
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow cancel 019a… --by jane --reason 'ordered twice'")]
pub(crate) struct Cancel {
    /// The run's id
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
    /// Who cancels it
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// Make a failed or expired run go on from the step that failed
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow retry 019a…")]
pub(crate) struct OneRun {
    /// The run's id
    #[arg(value_parser = words::run)]
    pub(crate) run: RunId,
}

/// Remove runs
///
/// All criteria that are given must hold. Never removes a run that somebody drives, or that goes on
/// with what was accepted for it, and tells how many it left so. Asks first on a terminal, except
/// with --json; where it does not ask, --all needs --yes.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow cleanup --expired --dry-run
  dflow cleanup --older-than 30d --status completed,rejected --yes
  dflow cleanup --all --yes")]
pub(crate) struct Cleanup {
    /// Only what has expired
    #[arg(long)]
    pub(crate) expired: bool,
    /// Only what was written last before that time: RFC 3339, a date, or 30d for 30 days ago
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    pub(crate) older_than: Option<Moment>,
    /// Every run; must be said where there is no other criterion
    #[arg(long)]
    pub(crate) all: bool,
    /// Only tell what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask first
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) filter: RunFilter,
}

/// Work in the background: fire timers, go on with what was answered, take over crashed runs
///
/// Any number of workers may share a store. Ctrl-C ends it after the steps at hand are committed.
/// With --once it ends with 5 when a run could not be gone on with; it stays as it was.
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow work
  dflow work --once                    (does what is due now, and ends; for cron)")]
pub(crate) struct Work {
    /// Do what is due now, and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// Make an encryption key
#[derive(Group)]
#[command(after_help = "\
Example:
  export FLOW_ENCRYPTION_KEY=$(dflow keygen)

To rotate: put the new key first and the old one after a comma, then run `dflow rotate-keys`.")]
pub(crate) struct Keygen {}

/// Seal every run anew with the active key
///
/// FLOW_ENCRYPTION_KEY=NEW,OLD: the first key seals, all of them open. Can be stopped at any time
/// and gone on with by --cursor.
#[derive(Group)]
#[command(after_help = "\
Examples:
  FLOW_ENCRYPTION_KEY=$NEW,$OLD dflow rotate-keys
  dflow rotate-keys --cursor 019a…     (goes on where an earlier call stopped)")]
pub(crate) struct RotateKeys {
    /// Go on after that run
    #[arg(long, value_name = "CURSOR", value_parser = words::run)]
    pub(crate) cursor: Option<RunId>,
    /// How many runs are read at once
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) page: u16,
}

/// Tell, before a deploy, which parked runs a flow could not go on with
///
/// Ends with 1 when a run would be stranded, with 2 when the document itself is wrong, with 5 when
/// a run can't be opened.
#[derive(Group)]
#[command(after_help = "\
Example:
  dflow check examples/purchase-approval.yaml && deploy")]
pub(crate) struct FlowFile {
    /// The flow: a YAML or JSON document, or - to read it from standard input
    pub(crate) flow: PathBuf,
}

/// Move parked runs to a newer document
///
/// Compares first, shows what differs, and moves only runs that can go on with it. Ends with 1
/// when a run was refused, with 5 when one is not there or can't be opened; it stays as it was.
#[derive(Group)]
#[command(override_usage = "\
dflow upgrade [OPTIONS] <FLOW> <RUNS>...
       dflow upgrade [OPTIONS] --all <FLOW>")]
#[command(after_help = "\
Examples:
  dflow upgrade flow.yaml --all --dry-run
  dflow upgrade flow.yaml 019a… 019b…")]
pub(crate) struct Upgrade {
    /// The newer flow: a YAML or JSON document, or - to read it from standard input
    pub(crate) flow: PathBuf,
    /// The runs to move
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = words::run)]
    pub(crate) runs: Vec<RunId>,
    /// Every parked run of the flow
    #[arg(long)]
    pub(crate) all: bool,
    /// Only tell what would be moved
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
    /// In which language
    #[arg(long, value_enum, default_value_t = DiagramFormat::Mermaid)]
    pub(crate) format: DiagramFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiagramFormat {
    Mermaid,
    Dot,
}

/// List the tools that documents may call, with what they take and give
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow tools
  dflow tools http                     (one tool with its schemas)")]
pub(crate) struct Tools {
    /// Show that tool with its schemas
    pub(crate) tool: Option<String>,
}

/// Print a JSON Schema: of documents, or of what --json prints
#[derive(Group)]
#[command(after_help = "\
Examples:
  dflow schema document > flow.schema.json     (for editors)
  dflow schema output")]
pub(crate) struct Schema {
    /// Of what
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

/// Say in plain words how the store is, and whether everything is set up well
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
