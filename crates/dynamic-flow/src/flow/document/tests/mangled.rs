//! Documents in which something was changed by chance: whatever a text is, reading it ends in a flow
//! or in findings, each at a place that the text has.

use proptest::prelude::*;

use super::*;
use crate::flow::dot;

const PURCHASE: &str = include_str!("../../../../../../examples/purchase-approval.yaml");
const REVIEW: &str = include_str!("../../../../../../examples/document-review.yaml");

/// What the examples don't have.
const OTHERS: &str = "\
flow: others
steps:
  - { id: kept, keep: [{ id: a, set: [1, 'x', \"${ value }\"] }] }
  - id: tried
    try:
      - { id: again, retry: { attempts: 3, backoff: { first: 1s, max: 1m }, do: [{ id: b, call: http, with: { url: x } }] } }
    catch: { errors: [timeout], do: [{ id: c, fail: { code: c, message: \"{{ value.message }}\" } }] }
  - { id: timed, timeout: { after: 1h, do: [{ id: d, wait: 5m }] } }
  - id: asked
    await_input: { preset: form, fields: { name: { type: string } }, timeout: never, metadata: { of: \"${ input }\" } }
  - id: routed
    switch:
      on: [{ when: \"${ has(value.name) && value.name.matches('^[a-z]+$') }\", then: low }]
      cases: { low: [{ id: e, succeed: { n: 1.5e3, h: 0x1F, t: ~ } }] }
      default: [{ id: f, flow: { flow: inner, input: { enum: [1] }, steps: [{ id: g, get: v }] } }]
  - id: text
    set: |+
      {% for it in value.list %}{{ it | upper | default('?') }}{% endfor %}

    description: >-
      folded
      text
";

/// What means something to YAML, to an expression or to a template, or to neither.
const PARTS: [&str; 56] = [
    "&a ",
    "*a",
    "!t ",
    "!!binary ",
    "<<: *a",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "? ",
    ": ",
    "- ",
    "- - - ",
    "| ",
    ">-\n",
    "|2\n",
    "#",
    " #",
    "'",
    "\"",
    "\\",
    "\\x",
    "\"\\uD800\"",
    "`",
    "@",
    "\t",
    "\r",
    "\r\n",
    "\n\n",
    "\u{feff}",
    "\u{2028}",
    "\u{85}",
    "\0",
    "\u{7}",
    "é",
    "\u{1f600}",
    "${",
    "${ ",
    "}",
    " }",
    "{{ ",
    " }}",
    "{% if ",
    "{% endif %}",
    "{#",
    "| default(",
    "value.",
    "vars.x.y",
    "1e999",
    ".nan",
    "0o8",
    "~",
    "null",
    "[",
    "]",
    "{",
    ",",
];

#[derive(Debug, Clone)]
enum Change {
    /// Some bytes are others, or gone.
    Bytes(usize, usize, Vec<u8>),
    /// Something is written somewhere.
    Part(usize, &'static str),
    /// A word takes the place of another one.
    Words(usize, usize),
    /// A line is where another one was, and the other where the first one was.
    Lines(usize, usize),
    Without(usize),
    Twice(usize),
    /// A line is indented otherwise.
    Indent(usize, usize),
    /// A part is deep inside lists or objects.
    Deep(usize, &'static str, usize),
    /// All ends somewhere.
    Cut(usize),
}

fn changes() -> impl Strategy<Value = Change> {
    let at = || 0..10_000_usize;
    let bytes = prop::collection::vec(any::<u8>(), 0..4);
    let opens = prop::sample::select(vec!["[", "{ a: ", "- ", "\n- ", "? ", "(", "${ ", "{{", "!"]);
    prop_oneof![
        (at(), 0..4_usize, bytes).prop_map(|(at, gone, bytes)| Change::Bytes(at, gone, bytes)),
        (at(), prop::sample::select(PARTS.to_vec())).prop_map(|(at, part)| Change::Part(at, part)),
        (at(), at()).prop_map(|(one, two)| Change::Words(one, two)),
        (at(), at()).prop_map(|(one, two)| Change::Lines(one, two)),
        at().prop_map(Change::Without),
        at().prop_map(Change::Twice),
        (at(), 0..12_usize).prop_map(|(at, spaces)| Change::Indent(at, spaces)),
        (at(), opens, 0..300_usize).prop_map(|(at, open, times)| Change::Deep(at, open, times)),
        at().prop_map(Change::Cut),
    ]
}

impl Change {
    fn make(&self, text: &str) -> String {
        let at = |at: usize| {
            let at = at % (text.len() + 1);
            (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        };
        let put = |place: usize, part: &str| format!("{}{part}{}", &text[..place], &text[place..]);
        let lines = || text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
        let of_lines = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines();
            if !lines.is_empty() {
                change(&mut lines);
            }
            lines.concat()
        };
        match self {
            Self::Bytes(place, gone, bytes) => {
                let mut all = text.as_bytes().to_vec();
                let from = place % (all.len() + 1);
                let to = (from + gone).min(all.len());
                all.splice(from..to, bytes.iter().copied());
                String::from_utf8_lossy(&all).into_owned()
            }
            Self::Part(place, part) => put(at(*place), part),
            Self::Words(one, two) => {
                let words: Vec<&str> = text.split_inclusive(char::is_whitespace).collect();
                let mut words = words.clone();
                let length = words.len();
                if length > 0 {
                    words[one % length] = words[two % length];
                }
                words.concat()
            }
            Self::Lines(one, two) => of_lines(&|lines| {
                let length = lines.len();
                lines.swap(one % length, two % length);
            }),
            Self::Without(line) => of_lines(&|lines| {
                lines.remove(line % lines.len());
            }),
            Self::Twice(line) => of_lines(&|lines| {
                let line = line % lines.len();
                lines.insert(line, lines[line].clone());
            }),
            Self::Indent(line, spaces) => of_lines(&|lines| {
                let line = line % lines.len();
                lines[line] =
                    format!("{}{}", " ".repeat(*spaces), lines[line].trim_start_matches(' '));
            }),
            Self::Deep(place, open, times) => put(at(*place), &open.repeat(*times)),
            Self::Cut(place) => text[..at(*place)].to_owned(),
        }
    }
}

/// The documents as they are, and as JSON.
fn documents() -> Vec<String> {
    let yaml = [PURCHASE, REVIEW, OTHERS];
    let json = yaml.iter().flat_map(|text| {
        let value = parse(text).0.unwrap().to_value();
        [value.to_string(), serde_json::to_string_pretty(&value).unwrap()]
    });
    yaml.iter().map(|&text| text.to_owned()).chain(json).collect()
}

/// The lengths of the lines of a text, in characters. A byte order mark is none of them.
fn lengths(text: &str) -> Vec<usize> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split('\n').map(|line| line.chars().count()).collect()
}

fn check_reading(text: &str) -> std::result::Result<(), TestCaseError> {
    let lengths = lengths(text);
    let places = |error: &Error| {
        let findings = error.findings();
        prop_assert!(!findings.is_empty());
        for finding in findings {
            let (line, column) = (finding.line.unwrap_or(0), finding.column.unwrap_or(0));
            let length = line.checked_sub(1).and_then(|line| lengths.get(line));
            prop_assert!(
                length.is_some_and(|length| (1..=length + 1).contains(&column)),
                "{finding} is not in the document"
            );
            let controls =
                [&finding.path, &finding.message].map(|it| it.contains(char::is_control));
            prop_assert_eq!(controls, [false, false], "{:?}", finding);
        }
        let told: usize = findings.iter().map(|finding| finding.message.len()).sum();
        prop_assert!(told <= 4_096 + 200 * text.len(), "{told} bytes are told of {}", text.len());
        Ok(())
    };
    match read(text) {
        Ok(flow) => {
            let _ = (mermaid(flow.def(), &[]), dot(flow.def(), &[]));
        }
        Err(error) => places(&error)?,
    }
    if let Err(error) = Flow::from_document_of_run(text, &tools()) {
        places(&error)?;
    }
    Ok(())
}

#[test]
fn documents_are_right_before_they_are_changed() {
    for text in documents() {
        if let Err(error) = read(&text) {
            let told: Vec<String> = error.findings().iter().map(ToString::to_string).collect();
            // It gets a variable inside a flow that has none.
            assert!(told.iter().all(|told| told.contains("the variable `v`")), "{told:#?}");
        }
    }
}

#[test]
fn a_finding_is_one_line_whatever_it_quotes() {
    let told = findings("flow: f\nsteps: [{ id: \"a\\nb\", set: 1, \"x\\e[2J\": 1 }]\n");
    let starts = [r"2:15: a\nb: the step's id: ", r"2:31: a\nb: a step has no field `x\u{1b}[2J`"];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
}

#[test]
fn a_carriage_return_ends_a_line() {
    for text in [
        "!t \ra",
        "flow: f\rsteps: []\rx: 1",
        "flow: f\rsteps:\r- { id: s, set: '${ value\r  = 1 }' }",
    ] {
        let lines = |text: &str| {
            findings(text)
                .iter()
                .map(|told| told[..told.find(' ').unwrap()].to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(text), lines(&text.replace('\r', "\n")), "{text:?}");
    }
    assert!(findings("!t \ra")[0].starts_with("1:1: anchors"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn a_changed_document_is_read_or_told_of(
        document in prop::sample::select(documents()),
        changes in prop::collection::vec(changes(), 1..5),
    ) {
        let text = changes.iter().fold(document, |text, change| change.make(&text));
        check_reading(&text)?;
    }

    #[test]
    fn a_text_by_chance_is_read_or_told_of(
        parts in prop::collection::vec(prop_oneof![
            prop::sample::select(PARTS.to_vec()).prop_map(str::to_owned),
            prop::sample::select(vec![
                "flow", "steps", "id", "set", "switch", "on", "cases", "a", " ", "\n", "\n  ", "\n    ",
            ]).prop_map(str::to_owned),
            ".{0,4}",
        ], 0..40),
    ) {
        check_reading(&parts.concat())?;
    }
}
