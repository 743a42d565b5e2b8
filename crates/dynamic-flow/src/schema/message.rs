//! What does not fit, in words that quote the schema and never the value.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};

use super::Violation;

/// How much of a schema a message quotes, in characters.
const MAX_QUOTED: usize = 200;
/// How many unexpected properties a message names.
const MAX_NAMES: usize = 10;

/// Adds what an error says; where only one of several schemas can have been meant, what it says.
pub(super) fn collect(error: &ValidationError<'_>, violations: &mut Vec<Violation>) {
    if let Kind::AnyOf { context } | Kind::OneOfNotValid { context } = error.kind() {
        let mut meant = context.iter().filter(|branch| may_be_meant(branch, error));
        if let (Some(branch), None) = (meant.next(), meant.next()) {
            branch.iter().for_each(|error| collect(error, violations));
            return;
        }
        if let Some(violation) = choice(context, error) {
            violations.push(violation);
            return;
        }
    }
    violations
        .push(Violation { pointer: error.instance_path().as_str().to_owned(), message: of(error) });
}

/// Whether a value that fails at `whole` may have been meant for this one of its schemas: it has
/// the right type, and the constants by which variants are told apart.
fn may_be_meant(branch: &[ValidationError<'_>], whole: &ValidationError<'_>) -> bool {
    !branch.iter().any(|error| match error.kind() {
        Kind::Type { .. } | Kind::FalseSchema => error.instance_path() == whole.instance_path(),
        Kind::Constant { .. } | Kind::Enum { .. } => true,
        _ => false,
    })
}

/// What tells all of the schemas apart, if it is one thing: the constants of which a value must
/// have one, in one place, or else the types of which it must be one.
fn choice(context: &[Vec<ValidationError<'_>>], whole: &ValidationError<'_>) -> Option<Violation> {
    constants(context).or_else(|| types(context, whole))
}

fn constants(context: &[Vec<ValidationError<'_>>]) -> Option<Violation> {
    let mut place = None;
    let mut choices = Vec::new();
    for branch in context {
        let (path, values) = branch.iter().find_map(|error| {
            let values = match error.kind() {
                Kind::Constant { expected_value } => vec![expected_value.to_string()],
                Kind::Enum { options } => {
                    options.as_array()?.iter().map(ToString::to_string).collect()
                }
                _ => return None,
            };
            Some((error.instance_path(), values))
        })?;
        if *place.get_or_insert(path) != path {
            return None;
        }
        choices.extend(values);
    }
    let message = format!("must be one of {}", cut(&choices.join(", ")));
    Some(Violation { pointer: place?.as_str().to_owned(), message })
}

fn types(context: &[Vec<ValidationError<'_>>], whole: &ValidationError<'_>) -> Option<Violation> {
    let mut wanted = Vec::new();
    for branch in context {
        let at_top = |error: &&ValidationError<'_>| error.instance_path() == whole.instance_path();
        wanted.extend(branch.iter().filter(at_top).find_map(|error| match error.kind() {
            Kind::Type { kind } => Some(type_names(kind)),
            _ => None,
        })?);
    }
    let pointer = whole.instance_path().as_str().to_owned();
    Some(Violation { pointer, message: one_of_types(&wanted) })
}

fn type_names(kind: &TypeKind) -> Vec<String> {
    match kind {
        TypeKind::Single(wanted) => vec![wanted.to_string()],
        TypeKind::Multiple(wanted) => wanted.iter().map(|wanted| wanted.to_string()).collect(),
    }
}

fn one_of_types(wanted: &[String]) -> String {
    format!("must be of one of the types {}", wanted.join(", "))
}

/// What is wrong with a schema itself.
pub(super) fn of_schema(error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Format { format } if format == "regex" => {
            "must be a regular expression without look-around and back-references".into()
        }
        Kind::AnyOf { .. } if error.instance_path().as_str().ends_with("/type") => {
            "`type` must be null, boolean, object, array, number, string or integer, or a list of \
             these"
                .into()
        }
        Kind::Referencing(error) => format!("a reference can't be resolved: {error}"),
        _ => of(error),
    }
}

fn of(error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(wanted) } => format!("must be of type {wanted}"),
        Kind::Type { kind } => one_of_types(&type_names(kind)),
        Kind::Required { property } => format!("the property {property} is missing"),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("must not have the property {}", names(unexpected))
        }
        Kind::Constant { expected_value } => format!("must be {}", cut(expected_value)),
        Kind::Enum { options } => format!("must be one of {}", cut(options)),
        Kind::Format { format } => match example(format) {
            Some(example) => format!("must have the format {format}, such as {example}"),
            None => format!("must have the format {format}"),
        },
        Kind::Pattern { pattern } => format!("must match the pattern {}", cut(pattern)),
        Kind::Maximum { limit } => format!("must be at most {}", number(limit)),
        Kind::Minimum { limit } => format!("must be at least {}", number(limit)),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {}", number(limit)),
        Kind::ExclusiveMinimum { limit } => format!("must be greater than {}", number(limit)),
        Kind::MultipleOf { multiple_of } => {
            format!("must be a multiple of {}", number(multiple_of))
        }
        Kind::MaxLength { limit } => format!("must have at most {}", many(*limit, "character")),
        Kind::MinLength { limit } => format!("must have at least {}", many(*limit, "character")),
        Kind::MaxItems { limit } => format!("must have at most {}", many(*limit, "item")),
        Kind::MinItems { limit } => format!("must have at least {}", many(*limit, "item")),
        Kind::MaxProperties { limit } => format!("must have at most {limit} properties"),
        Kind::MinProperties { limit } => format!("must have at least {limit} properties"),
        Kind::AdditionalItems { limit } => format!("must have at most {limit} items"),
        Kind::UnevaluatedItems { unexpected } => {
            format!("has {} too many", many(unexpected.len() as u64, "item"))
        }
        Kind::UniqueItems => "must not have the same item twice".into(),
        Kind::Contains => "lacks an item that the schema asks for (`contains`)".into(),
        Kind::FalseSchema => "must not be there".into(),
        Kind::Not { schema } => format!("must not fit {}", cut(schema)),
        Kind::PropertyNames { error } => format!("the name of a property {}", of(error)),
        Kind::AnyOf { .. } => "fits none of the schemas of `anyOf`".into(),
        Kind::OneOfNotValid { .. } => "fits none of the schemas of `oneOf`".into(),
        Kind::OneOfMultipleValid { .. } => "fits more than one of the schemas of `oneOf`".into(),
        Kind::ContentEncoding { content_encoding } => format!("must be {content_encoding} text"),
        Kind::ContentMediaType { content_media_type } => {
            format!("must be a text that holds {content_media_type}")
        }
        Kind::FromUtf8 { .. } => "must hold UTF-8 once it is decoded".into(),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "can't be matched against its pattern".into()
        }
        Kind::Referencing(_) | Kind::Custom { .. } => {
            format!("does not fit `{}` of its schema", error.kind().keyword())
        }
    }
}

/// A number as people write it: 5 where a schema has 5.0.
fn number(limit: &impl ToString) -> String {
    let text = limit.to_string();
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// What a text of a format looks like, for people who do not know its name.
fn example(format: &str) -> Option<&'static str> {
    Some(match format {
        "date" => "1990-02-28",
        "date-time" => "1990-02-28T13:45:00Z",
        "time" => "13:45:00Z",
        "duration" => "P1DT12H",
        "email" | "idn-email" => "jane@example.com",
        "hostname" | "idn-hostname" => "www.example.com",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "uri" | "iri" => "https://example.com/page",
        "uri-reference" | "iri-reference" => "/page",
        "uuid" => "123e4567-e89b-12d3-a456-426614174000",
        "json-pointer" => "/items/0",
        "regex" => "^[a-z]+$",
        _ => return None,
    })
}

fn many(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn names(names: &[String]) -> String {
    let mut told: Vec<String> =
        names.iter().take(MAX_NAMES).map(|name| cut(&format_args!("{name:?}"))).collect();
    if names.len() > MAX_NAMES {
        told.push("…".into());
    }
    told.join(", ")
}

fn cut(text: &impl ToString) -> String {
    let text = text.to_string();
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
