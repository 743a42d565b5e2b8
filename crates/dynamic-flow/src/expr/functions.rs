//! The functions that expressions may call.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{
    arithmetic, convert,
    eval::Eval,
    kinds::Kinds,
    meter::{Fail, Meter, bytes},
    times,
    value::{List, Val},
};
use crate::words::did_you_mean;

/// A function, which gets the target of a method call as its first argument.
type Body = for<'a> fn(&Given<'_, 'a>) -> Eval<'a>;

/// How a function is called: `f(x)`, `x.f()`, or either.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Function,
    Method,
    Both,
}

pub(super) struct Entry {
    name: &'static str,
    style: Style,
    /// The fewest and the most arguments, the target included.
    arguments: (usize, usize),
    kinds: Signature,
    body: Body,
}

/// Of what kinds the arguments may be, the last for those that follow it, and the result.
type Signature = (&'static [Kinds], Kinds);

const fn entry(
    name: &'static str,
    style: Style,
    arguments: (usize, usize),
    kinds: Signature,
    body: Body,
) -> Entry {
    Entry { name, style, arguments, kinds, body }
}

const ANY: Kinds = Kinds::ANY;
const BOOL: Kinds = Kinds::BOOL;
const LIST: Kinds = Kinds::LIST;
const NUMBER: Kinds = Kinds::NUMBER;
const TEXT: Kinds = Kinds::TEXT;
const TYPE: Kinds = Kinds::TYPE;
const TIME: Kinds = Kinds::TIMESTAMP.or(Kinds::DURATION);
/// What has a size.
const SIZED: Kinds = TEXT.or(LIST).or(Kinds::MAP).or(Kinds::BYTES);
/// What can be made a text.
const PLAIN: Kinds = TEXT.or(BOOL).or(NUMBER).or(TIME).or(Kinds::BYTES).or(TYPE);

const FUNCTIONS: [Entry; 43] = [
    entry("size", Style::Both, (1, 1), (&[SIZED], NUMBER), size),
    entry("type", Style::Function, (1, 1), (&[ANY], TYPE), |given| {
        Ok(Val::Type(given.args[0].type_name()))
    }),
    entry("dyn", Style::Function, (1, 1), (&[ANY], ANY), |given| Ok(given.args[0].clone())),
    entry("bool", Style::Function, (1, 1), (&[BOOL.or(TEXT)], BOOL), convert::to_bool),
    entry("int", Style::Function, (1, 1), (&[NUMBER.or(TEXT).or(TIME)], NUMBER), convert::to_int),
    entry("uint", Style::Function, (1, 1), (&[NUMBER.or(TEXT)], NUMBER), convert::to_uint),
    entry("double", Style::Function, (1, 1), (&[NUMBER.or(TEXT)], NUMBER), convert::to_double),
    entry("string", Style::Function, (1, 1), (&[PLAIN], TEXT), convert::to_string),
    entry(
        "bytes",
        Style::Function,
        (1, 1),
        (&[TEXT.or(Kinds::BYTES)], Kinds::BYTES),
        convert::to_bytes,
    ),
    entry(
        "timestamp",
        Style::Function,
        (1, 1),
        (&[NUMBER.or(TEXT).or(Kinds::TIMESTAMP)], Kinds::TIMESTAMP),
        times::timestamp,
    ),
    entry(
        "duration",
        Style::Function,
        (1, 1),
        (&[NUMBER.or(TEXT).or(Kinds::DURATION)], Kinds::DURATION),
        times::duration,
    ),
    entry("contains", Style::Method, (2, 2), (&[TEXT], BOOL), |given| {
        given.texts(|text, part| Ok(Val::Bool(text.contains(part))))
    }),
    entry("startsWith", Style::Method, (2, 2), (&[TEXT], BOOL), |given| {
        given.texts(|text, part| Ok(Val::Bool(text.starts_with(part))))
    }),
    entry("endsWith", Style::Method, (2, 2), (&[TEXT], BOOL), |given| {
        given.texts(|text, part| Ok(Val::Bool(text.ends_with(part))))
    }),
    entry("indexOf", Style::Method, (2, 2), (&[TEXT], NUMBER), |given| {
        given.texts(|text, part| Ok(position(text, text.find(part))))
    }),
    entry("lastIndexOf", Style::Method, (2, 2), (&[TEXT], NUMBER), |given| {
        given.texts(|text, part| Ok(position(text, text.rfind(part))))
    }),
    entry("lowerAscii", Style::Method, (1, 1), (&[TEXT], TEXT), |given| {
        given.text(|text| Ok(Val::text(text.to_ascii_lowercase())))
    }),
    entry("upperAscii", Style::Method, (1, 1), (&[TEXT], TEXT), |given| {
        given.text(|text| Ok(Val::text(text.to_ascii_uppercase())))
    }),
    entry("trim", Style::Method, (1, 1), (&[TEXT], TEXT), |given| {
        given.text(|text| Ok(Val::text(text.trim())))
    }),
    entry("charAt", Style::Method, (2, 2), (&[TEXT, NUMBER], TEXT), char_at),
    entry("substring", Style::Method, (2, 3), (&[TEXT, NUMBER], TEXT), substring),
    entry("replace", Style::Method, (3, 3), (&[TEXT], TEXT), replace),
    entry("split", Style::Method, (2, 2), (&[TEXT], LIST), split),
    entry("join", Style::Method, (1, 2), (&[LIST, TEXT], TEXT), join),
    entry("math.greatest", Style::Function, (1, 8), (&[NUMBER.or(LIST)], NUMBER), |given| {
        extreme(given, true)
    }),
    entry("math.least", Style::Function, (1, 8), (&[NUMBER.or(LIST)], NUMBER), |given| {
        extreme(given, false)
    }),
    entry(
        "math.abs",
        Style::Function,
        (1, 1),
        (&[NUMBER.or(Kinds::DURATION)], NUMBER.or(Kinds::DURATION)),
        abs,
    ),
    entry("math.ceil", Style::Function, (1, 1), (&[NUMBER], NUMBER), |given| {
        given.double(f64::ceil)
    }),
    entry("math.floor", Style::Function, (1, 1), (&[NUMBER], NUMBER), |given| {
        given.double(f64::floor)
    }),
    entry("math.round", Style::Function, (1, 1), (&[NUMBER], NUMBER), |given| {
        given.double(f64::round)
    }),
    entry("math.trunc", Style::Function, (1, 1), (&[NUMBER], NUMBER), |given| {
        given.double(f64::trunc)
    }),
    entry("math.isFinite", Style::Function, (1, 1), (&[NUMBER], BOOL), |given| {
        match given.args[0].as_double() {
            Some(double) => Ok(Val::Bool(double.is_finite())),
            None => given.mismatch(),
        }
    }),
    entry("getFullYear", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::Year)
    }),
    entry("getMonth", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::Month)
    }),
    entry("getDate", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::Date)
    }),
    entry("getDayOfMonth", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::DayOfMonth)
    }),
    entry("getDayOfWeek", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::DayOfWeek)
    }),
    entry("getDayOfYear", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::DayOfYear)
    }),
    entry("getHours", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::Hours)
    }),
    entry("getMinutes", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::Minutes)
    }),
    entry("getSeconds", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::Seconds)
    }),
    entry("getMilliseconds", Style::Method, (1, 2), (&[TIME, TEXT], NUMBER), |given| {
        times::part(given, times::Part::Milliseconds)
    }),
    entry("reverse", Style::Method, (1, 1), (&[LIST.or(TEXT)], LIST.or(TEXT)), reverse),
];

/// What only templates have, where it differs from or adds to the functions.
const FILTERS: [Entry; 9] = [
    entry("upper", Style::Method, (1, 1), (&[TEXT], TEXT), |given| {
        given.text(|text| Ok(Val::text(text.to_uppercase())))
    }),
    entry("lower", Style::Method, (1, 1), (&[TEXT], TEXT), |given| {
        given.text(|text| Ok(Val::text(text.to_lowercase())))
    }),
    entry("length", Style::Method, (1, 1), (&[SIZED], NUMBER), size),
    entry("first", Style::Method, (1, 1), (&[LIST], ANY), |given| end(given, |_| 0)),
    entry("last", Style::Method, (1, 1), (&[LIST], ANY), |given| {
        end(given, |length| length.saturating_sub(1))
    }),
    entry("join", Style::Method, (1, 2), (&[LIST, TEXT], TEXT), join_any),
    entry("fixed", Style::Method, (2, 2), (&[NUMBER], TEXT), fixed),
    entry("round", Style::Method, (1, 1), (&[NUMBER], NUMBER), |given| given.double(f64::round)),
    entry("json", Style::Method, (1, 1), (&[ANY], TEXT), |given| {
        let json = given.args[0].clone().into_json(given.meter)?.to_string();
        given.meter.spend(bytes(json.len()))?;
        Ok(Val::text(json))
    }),
];

/// A function that an expression calls.
#[derive(Clone, Copy)]
pub(super) struct Call {
    name: &'static str,
    kinds: Signature,
    body: Body,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        self.name
    }

    /// Whether there may be arguments of those kinds for which it works.
    pub(super) fn may_take(self, args: &[Kinds]) -> bool {
        let (takes, _) = self.kinds;
        let last = takes.last().copied().unwrap_or(ANY);
        let wanted = takes.iter().copied().chain(std::iter::repeat(last));
        args.iter().zip(wanted).all(|(given, wanted)| given.may_be(wanted))
    }

    /// Of what kinds its result may be.
    pub(super) fn gives(self) -> Kinds {
        self.kinds.1
    }

    pub(super) fn run<'a>(self, args: &[Val<'a>], meter: &Meter) -> Eval<'a> {
        (self.body)(&Given { name: self.name, args, meter })
    }
}

/// Finds a function by its name and by how it is called; says what is wrong where there is none.
pub(super) fn find(name: &str, method: bool, arguments: usize) -> Result<Call, String> {
    let Some(entry) = FUNCTIONS.iter().find(|entry| entry.name == name) else {
        let known = FUNCTIONS.iter().map(|entry| entry.name);
        return Err(format!("there is no function {name}{}", meant(name, known)));
    };
    match (entry.style, method) {
        (Style::Function, true) => return Err(format!("{name} is called as {name}(…)")),
        (Style::Method, false) => return Err(format!("{name} is called as ….{name}(…)")),
        _ => {}
    }
    let (least, most) = entry.arguments;
    let given = arguments + usize::from(method);
    if given < least || given > most {
        return Err(format!("{name} does not take {arguments} arguments"));
    }
    Ok(Call { name: entry.name, kinds: entry.kinds, body: entry.body })
}

/// Finds what a template calls as a filter: a function of its own for templates, or any other.
pub(super) fn find_filter(name: &str, arguments: usize) -> Result<Call, String> {
    let Some(entry) = FILTERS.iter().chain(&FUNCTIONS).find(|entry| entry.name == name) else {
        let known = FILTERS.iter().chain(&FUNCTIONS).map(|entry| entry.name);
        let known: BTreeSet<&str> = known.chain(["default"]).collect();
        return Err(format!("there is no filter {name}{}", meant(name, known.iter().copied())));
    };
    let (least, most) = entry.arguments;
    if arguments + 1 < least || arguments + 1 > most {
        return Err(format!("{name} does not take {arguments} arguments"));
    }
    Ok(Call { name: entry.name, kinds: entry.kinds, body: entry.body })
}

/// What other languages call some functions.
const ELSEWHERE: [(&str, &str); 8] = [
    ("ceiling", "math.ceil"),
    ("count", "size"),
    ("len", "size"),
    ("length", "size"),
    ("lower", "lowerAscii"),
    ("max", "math.greatest"),
    ("min", "math.least"),
    ("upper", "upperAscii"),
];

/// Which function may be meant, or else which there are.
fn meant<'w>(name: &str, known: impl Iterator<Item = &'w str> + Clone) -> String {
    let bare = name.strip_prefix("math.").unwrap_or(name);
    let elsewhere = ELSEWHERE.iter().find(|(word, _)| *word == bare).map(|(_, word)| *word);
    let in_math = || known.clone().find(|word| word.strip_prefix("math.") == Some(name));
    match elsewhere.or_else(in_math) {
        Some(word) => format!("; did you mean `{word}`?"),
        None => did_you_mean(name, known),
    }
}

/// What a function is called with.
pub(super) struct Given<'m, 'a> {
    name: &'static str,
    pub(super) args: &'m [Val<'a>],
    pub(super) meter: &'m Meter,
}

impl<'a> Given<'_, 'a> {
    /// Says which types the function does not work for; never which values.
    pub(super) fn mismatch<T>(&self) -> Result<T, Fail> {
        let types: Vec<_> = self.args.iter().map(Val::type_name).collect();
        Fail::because(format!("{} does not work for {}", self.name, types.join(", ")))
    }

    /// Says what is wrong with the argument.
    pub(super) fn refuse<T>(&self, problem: &str) -> Result<T, Fail> {
        Fail::because(format!("{}: {problem}", self.name))
    }

    /// Reads the first argument as a text and pays for reading and copying it.
    fn text(&self, body: impl FnOnce(&str) -> Eval<'a>) -> Eval<'a> {
        match self.args {
            [Val::Text(text)] => {
                self.meter.spend(bytes(2 * text.len()))?;
                body(text)
            }
            _ => self.mismatch(),
        }
    }

    /// Reads both arguments as texts and pays for searching one for the other.
    fn texts(&self, body: impl FnOnce(&str, &str) -> Eval<'a>) -> Eval<'a> {
        match self.args {
            [Val::Text(text), Val::Text(part)] => {
                self.meter.spend(bytes(2 * (text.len() + part.len())))?;
                body(text, part)
            }
            _ => self.mismatch(),
        }
    }

    fn double(&self, body: fn(f64) -> f64) -> Eval<'a> {
        match &self.args[0] {
            // Whole already, and a double might not hold it.
            whole @ (Val::Int(_) | Val::Uint(_)) => Ok(whole.clone()),
            Val::Double(double) => Ok(Val::Double(body(*double))),
            _ => self.mismatch(),
        }
    }
}

/// A length or index as an int.
fn int<'a>(count: usize) -> Val<'a> {
    Val::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Counts texts in characters, as CEL does.
fn size<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    Ok(int(match &given.args[0] {
        Val::Text(text) => {
            given.meter.spend(bytes(text.len()))?;
            text.chars().count()
        }
        Val::Bytes(data) => data.len(),
        Val::List(list) => list.len(),
        Val::Map(map) => map.len(),
        _ => return given.mismatch(),
    }))
}

/// A byte position as a character position; -1 for none.
fn position<'a>(text: &str, found: Option<usize>) -> Val<'a> {
    match found.and_then(|at| text.get(..at)) {
        Some(before) => int(before.chars().count()),
        None => Val::Int(-1),
    }
}

fn char_at<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    match given.args {
        [Val::Text(text), Val::Int(at)] => {
            given.meter.spend(bytes(text.len()))?;
            match usize::try_from(*at).ok().and_then(|at| text.chars().nth(at)) {
                Some(char) => Ok(Val::text(char.to_string())),
                None => given.refuse("the index is out of range"),
            }
        }
        _ => given.mismatch(),
    }
}

fn substring<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let (text, from, to) = match given.args {
        [Val::Text(text), Val::Int(from)] => (text, *from, i64::MAX),
        [Val::Text(text), Val::Int(from), Val::Int(to)] => (text, *from, *to),
        _ => return given.mismatch(),
    };
    given.meter.spend(bytes(3 * text.len()))?;
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let to = if given.args.len() == 2 { length } else { to };
    if from < 0 || from > to || to > length {
        return given.refuse("the range is outside of the text");
    }
    let (from, count) = (from as usize, (to - from) as usize);
    Ok(Val::text(text.chars().skip(from).take(count).collect::<String>()))
}

/// Pays for the result before making it: it may be far longer than what it is made from.
fn replace<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let [Val::Text(text), Val::Text(from), Val::Text(to)] = given.args else {
        return given.mismatch();
    };
    given.meter.spend(bytes(2 * (text.len() + from.len())))?;
    let times = text.matches(&**from).count();
    given.meter.spend(bytes(2 * (text.len() + times.saturating_mul(to.len()))))?;
    Ok(Val::text(text.replace(&**from, to)))
}

fn split<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let [Val::Text(text), Val::Text(separator)] = given.args else {
        return given.mismatch();
    };
    given.meter.spend(bytes(2 * (text.len() + separator.len())))?;
    let mut parts = Vec::new();
    // An empty separator splits into characters, without the empty ends that Rust adds.
    let skipped = usize::from(separator.is_empty());
    let count = text.split(&**separator).count() - 2 * skipped;
    for part in text.split(&**separator).skip(skipped).take(count) {
        given.meter.spend(6 + bytes(part.len()))?;
        parts.push(Val::text(part));
    }
    Ok(Val::list(parts))
}

fn join<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let (list, separator): (_, &str) = match given.args {
        [Val::List(list)] => (list, ""),
        [Val::List(list), Val::Text(separator)] => (list, separator),
        _ => return given.mismatch(),
    };
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let Val::Text(item) = item else {
            return given.refuse("an item of the list is no string");
        };
        given.meter.spend(2 + bytes(2 * (item.len() + separator.len())))?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&item);
    }
    Ok(Val::text(joined))
}

/// Joins items of any kind, as a template shows them.
fn join_any<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    let Some(Val::List(list)) = given.args.first() else {
        return given.mismatch();
    };
    let shown = list.iter().map(|item| item.shown(given.meter).map(Val::text));
    let mut args = given.args.to_vec();
    args[0] = Val::list(shown.collect::<Result<_, _>>()?);
    join(&Given { name: given.name, args: &args, meter: given.meter })
}

fn end<'a>(given: &Given<'_, 'a>, index: fn(usize) -> usize) -> Eval<'a> {
    match &given.args[0] {
        Val::List(list) => match list.get(index(list.len())) {
            Some(item) => Ok(item),
            None => Fail::missing(format!("{}: the list is empty", given.name)),
        },
        _ => given.mismatch(),
    }
}

/// A number with that many digits behind the point.
fn fixed<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    match (given.args[0].as_double(), &given.args[1]) {
        (Some(number), Val::Int(digits @ 0..=9)) => {
            given.meter.spend(bytes(512))?;
            Ok(Val::text(format!("{number:.*}", *digits as usize)))
        }
        (Some(_), Val::Int(_)) => given.refuse("the number of digits is not from 0 to 9"),
        _ => given.mismatch(),
    }
}

fn reverse<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    match &given.args[0] {
        Val::List(list) => {
            given.meter.spend(2 * list.len())?;
            let items = (0..list.len()).rev().filter_map(|index| list.get(index));
            Ok(Val::List(List::Shared(items.collect())))
        }
        Val::Text(text) => {
            given.meter.spend(bytes(2 * text.len()))?;
            Ok(Val::text(text.chars().rev().collect::<String>()))
        }
        _ => given.mismatch(),
    }
}

/// The greatest or least of the arguments, or of the items of a single list.
fn extreme<'a>(given: &Given<'_, 'a>, greatest: bool) -> Eval<'a> {
    let items: Vec<_> = match given.args {
        [Val::List(list)] => {
            given.meter.spend(2 * list.len())?;
            list.iter().collect()
        }
        args => args.to_vec(),
    };
    let mut best: Option<Val<'a>> = None;
    for item in items {
        if item.as_double().is_none() {
            return given.refuse("an item is no number");
        }
        let better = match &best {
            None => true,
            Some(best) => match item.compare(best, given.meter)? {
                Some(order) => {
                    if greatest {
                        order.is_gt()
                    } else {
                        order.is_lt()
                    }
                }
                None => false,
            },
        };
        if better {
            best = Some(item);
        }
    }
    best.map_or_else(|| given.refuse("there are no items"), Ok)
}

fn abs<'a>(given: &Given<'_, 'a>) -> Eval<'a> {
    match &given.args[0] {
        Val::Int(int) if *int < 0 => arithmetic::negate(&given.args[0]),
        Val::Duration(duration) if *duration < SignedDuration::ZERO => {
            arithmetic::negate(&given.args[0])
        }
        Val::Double(double) => Ok(Val::Double(double.abs())),
        val @ (Val::Int(_) | Val::Uint(_) | Val::Duration(_)) => Ok(val.clone()),
        _ => given.mismatch(),
    }
}
