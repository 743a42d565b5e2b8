//! Puts questions to whoever sits at the terminal.

use inquire::{
    Confirm, MultiSelect, Select, Text, error::InquireResult, list_option::ListOption,
    ui::RenderConfig,
};

use super::{Asked, Prompt, Question, Stopped};
use crate::{
    render::{Style, clean_line},
    terminal::say,
};

/// Questions in the terminal, on standard error: standard output is for results.
pub(crate) struct InTerminal {
    style: Style,
}

impl InTerminal {
    pub(crate) fn new(style: Style) -> Self {
        Self { style }
    }

    fn config(&self) -> RenderConfig<'static> {
        match self.style == Style::plain() {
            true => RenderConfig::empty(),
            false => RenderConfig::default_colored(),
        }
    }
}

/// What is asked, made harmless for the terminal.
struct Words {
    label: String,
    help: Option<String>,
}

impl Words {
    fn of(question: &Question<'_>, how_to_skip: &str) -> Self {
        let skip = question.optional.then(|| how_to_skip.to_owned());
        let help: Vec<String> = question.help.map(clean_line).into_iter().chain(skip).collect();
        Self {
            label: clean_line(question.label),
            help: (!help.is_empty()).then(|| help.join("  ")),
        }
    }
}

/// What was answered. Esc, Ctrl-C and Ctrl-D end the whole: at the last question a field that they
/// skip would send what nobody has sent.
fn asked<T>(result: InquireResult<T>) -> Asked<T> {
    result.map(Some).map_err(|_| Stopped)
}

/// A yes, a no, or nothing; none if it is something else.
fn yes_or_no(line: &str) -> Option<Option<bool>> {
    match line.trim().to_lowercase().as_str() {
        "" => Some(None),
        "y" | "yes" => Some(Some(true)),
        "n" | "no" => Some(Some(false)),
        _ => None,
    }
}

/// Stands first among the options of a question that may be skipped.
const SKIP: &str = "(skip)";

impl Prompt for InTerminal {
    fn confirm(&mut self, question: Question<'_>, usual: Option<bool>) -> Asked<bool> {
        if question.optional {
            // What may be skipped has three answers: an empty line is one.
            let label = format!("{} (y/n)", question.label);
            let mut usual = usual.map_or("", |yes| if yes { "y" } else { "n" });
            while let Some(line) = self.line(Question { label: &label, ..question }, usual)? {
                if let Some(answer) = yes_or_no(&line) {
                    return Ok(answer);
                }
                self.complain("type y or n, or nothing to skip it");
                usual = "";
            }
            return Ok(None);
        }
        let words = Words::of(&question, "");
        let mut prompt = Confirm::new(&words.label).with_render_config(self.config());
        prompt = match usual {
            Some(usual) => prompt.with_default(usual),
            None => prompt.with_placeholder("y/n"),
        };
        if let Some(help) = &words.help {
            prompt = prompt.with_help_message(help);
        }
        asked(prompt.prompt())
    }

    fn choose(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: Option<usize>,
    ) -> Asked<usize> {
        let words = Words::of(&question, "(↑↓ to move, type to filter, Enter to choose)");
        let skip = question.optional.then(|| SKIP.to_owned());
        let before = usize::from(skip.is_some());
        let options: Vec<String> =
            skip.into_iter().chain(options.iter().map(|option| clean_line(option))).collect();
        let mut prompt = Select::new(&words.label, options)
            .with_starting_cursor(usual.map_or(0, |usual| usual + before))
            .with_render_config(self.config());
        if let Some(help) = &words.help {
            prompt = prompt.with_help_message(help);
        }
        let chosen = asked(prompt.raw_prompt())?;
        Ok(chosen.and_then(|option| option.index.checked_sub(before)))
    }

    fn choose_several(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: &[usize],
    ) -> Asked<Vec<usize>> {
        let words =
            Words::of(&question, "(space to choose, Enter when done; nothing chosen skips it)");
        let options: Vec<String> = options.iter().map(|option| clean_line(option)).collect();
        let mut prompt = MultiSelect::new(&words.label, options)
            .with_default(usual)
            .with_render_config(self.config());
        if let Some(help) = &words.help {
            prompt = prompt.with_help_message(help);
        }
        let indexes = |chosen: Vec<ListOption<String>>| chosen.iter().map(|it| it.index).collect();
        let chosen: Option<Vec<usize>> = asked(prompt.raw_prompt())?.map(indexes);
        Ok(chosen.filter(|chosen| !question.optional || !chosen.is_empty()))
    }

    fn line(&mut self, question: Question<'_>, usual: &str) -> Asked<String> {
        let words = Words::of(&question, "(Enter to skip)");
        let mut prompt = Text::new(&words.label).with_render_config(self.config());
        let usual = clean_line(usual);
        if !usual.is_empty() {
            prompt = prompt.with_initial_value(&usual);
        }
        if let Some(help) = &words.help {
            prompt = prompt.with_help_message(help);
        }
        asked(prompt.prompt())
    }

    fn complain(&mut self, message: &str) {
        say(&self.style.red(&format!("  {}", clean_line(message))));
    }
}

#[cfg(test)]
mod tests {
    use inquire::InquireError;

    use super::*;

    #[test]
    fn whoever_leaves_a_question_leaves_all_of_them() {
        for left in [InquireError::OperationCanceled, InquireError::OperationInterrupted] {
            assert_eq!(asked::<String>(Err(left)), Err(Stopped));
        }
        assert_eq!(asked(Ok(1)), Ok(Some(1)));
    }

    #[test]
    fn an_empty_line_is_neither_yes_nor_no() {
        for (line, answer) in [
            ("", Some(None)),
            (" Y", Some(Some(true))),
            ("yes", Some(Some(true))),
            ("No ", Some(Some(false))),
            ("maybe", None),
        ] {
            assert_eq!(yes_or_no(line), answer, "{line:?}");
        }
    }
}
