//! The options of each preset, as documents write them.

use serde_json::Value;

use super::Preset;

/// An option of a preset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresetOption {
    pub(crate) name: &'static str,
    pub(crate) sort: OptionSort,
    /// Whether there is no such preset without it.
    pub(crate) is_needed: bool,
}

/// What an option takes. A whole number, a number and a text may be `null`, too, as if they were not
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionSort {
    Flag,
    Whole,
    Number,
    Text,
    Texts,
    Object,
}

impl OptionSort {
    pub(crate) fn takes(self, value: &Value) -> bool {
        match self {
            Self::Flag => value.is_boolean(),
            Self::Whole => value.is_null() || value.is_u64(),
            Self::Number => value.is_null() || value.is_number(),
            Self::Text => value.is_null() || value.is_string(),
            Self::Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
            Self::Object => value.is_object(),
        }
    }
}

const fn may(name: &'static str, sort: OptionSort) -> PresetOption {
    PresetOption { name, sort, is_needed: false }
}

const fn must(name: &'static str, sort: OptionSort) -> PresetOption {
    PresetOption { name, sort, is_needed: true }
}

impl Preset {
    /// All presets, each with its options.
    pub(crate) const OPTIONS: &[(&str, &[PresetOption])] = &[
        (
            "approval",
            &[may("require_comments", OptionSort::Flag), may("allow_delegation", OptionSort::Flag)],
        ),
        ("confirmation", &[may("require_reason", OptionSort::Flag)]),
        ("document_review", &[may("allow_annotations", OptionSort::Flag)]),
        (
            "text",
            &[
                may("min_length", OptionSort::Whole),
                may("max_length", OptionSort::Whole),
                may("pattern", OptionSort::Text),
            ],
        ),
        (
            "number",
            &[
                may("min", OptionSort::Number),
                may("max", OptionSort::Number),
                may("integer", OptionSort::Flag),
            ],
        ),
        ("choice", &[must("options", OptionSort::Texts), may("multiple", OptionSort::Flag)]),
        ("form", &[must("fields", OptionSort::Object), may("optional", OptionSort::Texts)]),
    ];

    /// The options of the preset of that name, if there is one.
    pub(crate) fn options_of(name: &str) -> Option<&'static [PresetOption]> {
        Self::OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, options)| *options)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn read(preset: &str, options: &[(&str, &Value)]) -> Result<Preset, String> {
        let mut all = Map::from_iter([("preset".to_owned(), json!(preset))]);
        all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())));
        serde_json::from_value(all.into()).map_err(|error| error.to_string())
    }

    fn quoted(names: impl IntoIterator<Item = &'static str>) -> String {
        names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_presets_and_their_options_are_those_that_are_read() {
        let told = read("nothing", &[]).unwrap_err();
        let names = quoted(Preset::OPTIONS.iter().map(|(name, _)| *name));
        assert!(told.ends_with(&format!("expected one of {names}")), "{told}");
        for (preset, options) in Preset::OPTIONS {
            let told = read(preset, &[("nothing", &json!(1))]).unwrap_err();
            let names = quoted(options.iter().map(|option| option.name));
            let names = if options.len() == 2 { names.replace(", ", " or ") } else { names };
            assert!(told.ends_with(&names), "{preset}: {told}");
        }
    }

    #[test]
    fn an_option_takes_what_is_read() {
        let samples = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(2.0),
            json!(u64::MAX),
            json!("text"),
            json!([]),
            json!(["a", "b"]),
            json!(["a", 1]),
            json!([null]),
            json!({}),
            json!({ "a": 1 }),
        ];
        for (preset, options) in Preset::OPTIONS {
            let fitting = |option: &PresetOption| {
                let sample = samples.iter().find(|sample| option.sort.takes(sample));
                (option.name, sample.expect("every sort has a sample"))
            };
            let needed: Vec<_> = options.iter().filter(|it| it.is_needed).map(fitting).collect();
            assert!(read(preset, &needed).is_ok(), "{preset} needs nothing else");
            for option in *options {
                let others: Vec<_> =
                    needed.iter().copied().filter(|(name, _)| *name != option.name).collect();
                assert_eq!(read(preset, &others).is_err(), option.is_needed, "{}", option.name);
                for sample in &samples {
                    let with: Vec<_> =
                        others.iter().copied().chain([(option.name, sample)]).collect();
                    let is_read = read(preset, &with).is_ok();
                    assert_eq!(is_read, option.sort.takes(sample), "{}: {sample}", option.name);
                }
            }
        }
    }
}
