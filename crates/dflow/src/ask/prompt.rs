//! Puts questions to whoever sits at the terminal.

use inquire::{
    Confirm, InquireError, MultiSelect, Select, Text, error::InquireResult,
    list_option::ListOption, ui::RenderConfig,
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

fn asked<T>(result: InquireResult<Option<T>>) -> Asked<T> {
    match result {
        Ok(answer) => Ok(answer),
        Err(InquireError::OperationCanceled) => Ok(None),
        Err(_) => Err(Stopped),
    }
}

impl Prompt for InTerminal {
    fn confirm(&mut self, question: Question<'_>, usual: Option<bool>) -> Asked<bool> {
        let words = Words::of(&question, "(Esc to skip)");
        let mut prompt = Confirm::new(&words.label).with_render_config(self.config());
        prompt = match usual {
            Some(usual) => prompt.with_default(usual),
            None => prompt.with_placeholder("y/n"),
        };
        if let Some(help) = &words.help {
            prompt = prompt.with_help_message(help);
        }
        asked(prompt.prompt_skippable())
    }

    fn choose(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: Option<usize>,
    ) -> Asked<usize> {
        let words = Words::of(&question, "(↑↓ to move, type to filter, Esc to skip)");
        let options: Vec<String> = options.iter().map(|option| clean_line(option)).collect();
        let mut prompt = Select::new(&words.label, options)
            .with_starting_cursor(usual.unwrap_or(0))
            .with_render_config(self.config());
        if let Some(help) = &words.help {
            prompt = prompt.with_help_message(help);
        }
        asked(prompt.raw_prompt_skippable()).map(|chosen| chosen.map(|option| option.index))
    }

    fn choose_several(
        &mut self,
        question: Question<'_>,
        options: &[String],
        usual: &[usize],
    ) -> Asked<Vec<usize>> {
        let words = Words::of(&question, "(space to choose, Enter when done, Esc to skip)");
        let options: Vec<String> = options.iter().map(|option| clean_line(option)).collect();
        let mut prompt = MultiSelect::new(&words.label, options)
            .with_default(usual)
            .with_render_config(self.config());
        if let Some(help) = &words.help {
            prompt = prompt.with_help_message(help);
        }
        let indexes = |chosen: Vec<ListOption<String>>| chosen.iter().map(|it| it.index).collect();
        asked(prompt.raw_prompt_skippable()).map(|chosen| chosen.map(indexes))
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
        asked(prompt.prompt_skippable())
    }

    fn complain(&mut self, message: &str) {
        say(&self.style.red(&format!("  {}", clean_line(message))));
    }
}
