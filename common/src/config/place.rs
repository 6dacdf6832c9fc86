//! Where a configured value came from: a place in the file, or an environment variable.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::explain;
use super::{ConfigError, MAX_DEPTH};

/// An environment variable that overrides a key.
pub(super) struct Override {
    /// Its name.
    variable: String,
    /// Section and key, in lower case.
    pub(super) path: Vec<String>,
    /// Its value.
    pub(super) value: String,
}

impl Override {
    /// The variables that begin with the prefix and two underscores, in the order of their names.
    pub(super) fn collect(
        prefix: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<Self> {
        let mut overrides: Vec<Self> = environment
            .into_iter()
            .filter_map(|(variable, value)| {
                let rest = variable.strip_prefix(prefix)?.strip_prefix("__")?;
                let path = rest.split("__").map(str::to_ascii_lowercase).collect();
                Some(Self { variable, path, value })
            })
            .collect();
        overrides.sort_by(|a, b| a.variable.cmp(&b.variable));
        overrides
    }

    /// What is wrong with it.
    pub(super) fn error(&self, problem: &str) -> ConfigError {
        ConfigError::Invalid {
            place: format!("environment variable {}", self.variable),
            problem: problem.to_owned(),
        }
    }
}

/// The text and the overrides. A span behind the text's end stands for an override.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    pub(super) overrides: &'a [Override],
}

impl Source<'_> {
    /// The span that stands for the override.
    pub(super) fn override_span(&self, index: usize) -> Range<usize> {
        let start = self.text.len() + 1 + index;
        start..start + 1
    }

    /// Refuses overrides that name no key, or one too deep.
    pub(super) fn check_overrides(&self) -> Result<(), ConfigError> {
        match self
            .overrides
            .iter()
            .find(|entry| entry.path.len() > MAX_DEPTH || entry.path.iter().any(String::is_empty))
        {
            Some(entry) => Err(entry.error("write PREFIX__SECTION__KEY")),
            None => Ok(()),
        }
    }

    /// Refuses deep sections and lists (INJ-02); the parser itself stops where recursion would be a danger.
    pub(super) fn check_depth(&self, document: &DeTable<'_>) -> Result<(), ConfigError> {
        match too_deep(document, MAX_DEPTH) {
            Some(span) => {
                Err(self.error(Some(&span), format!("sections and lists nest at most {MAX_DEPTH} deep")))
            }
            None => Ok(()),
        }
    }

    /// The text is not TOML.
    pub(super) fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        self.error(error.span().as_ref(), error.message().trim_end().replace('\n', ", "))
    }

    /// The text is TOML, and `T` refused a key or a value of it.
    pub(super) fn value_error(&self, error: &toml::de::Error, keys: &DeTable<'_>) -> ConfigError {
        let span = error.span();
        let section = span.as_ref().and_then(|span| section_of(keys, span)).unwrap_or_default();
        self.error(span.as_ref(), explain(error.message(), &section.join(".")))
    }

    fn error(&self, span: Option<&Range<usize>>, problem: String) -> ConfigError {
        let start = span.map_or(0, |span| span.start);
        let entry = start.checked_sub(self.text.len() + 1).and_then(|index| self.overrides.get(index));
        if let Some(entry) = entry {
            return entry.error(&problem);
        }
        let before = self.text.get(..start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        ConfigError::Invalid { place: format!("{}:{line}:{column}", self.file), problem }
    }
}

/// The path of the section that holds the key or value with this span.
fn section_of(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        if is_section(value) && value.span() == *span {
            return Some(vec![key.get_ref().to_string()]);
        }
        if key.span() == *span || value.span() == *span {
            return Some(Vec::new());
        }
        let mut path = section_of_value(value, span)?;
        path.insert(0, key.get_ref().to_string());
        Some(path)
    })
}

fn section_of_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Table(table) => section_of(table, span),
        DeValue::Array(array) => section_of_array(array, span),
        _ => None,
    }
}

fn section_of_array(array: &DeArray<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    array.iter().find_map(|element| {
        if element.span() == *span { Some(Vec::new()) } else { section_of_value(element, span) }
    })
}

/// The first value below `levels` levels.
fn too_deep(table: &DeTable<'_>, levels: usize) -> Option<Range<usize>> {
    table.values().find_map(|value| too_deep_value(value, levels))
}

fn too_deep_value(value: &Spanned<DeValue<'_>>, levels: usize) -> Option<Range<usize>> {
    let Some(below) = levels.checked_sub(1) else { return Some(value.span()) };
    match value.get_ref() {
        DeValue::Table(table) => too_deep(table, below),
        DeValue::Array(array) => array.iter().find_map(|element| too_deep_value(element, below)),
        _ => None,
    }
}

fn is_section(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Table(_))
}
