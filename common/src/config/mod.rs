//! Configuration: one TOML text and the environment's overrides become one typed value, or one line that says where.
//!
//! Enters: the text, its file name, environment variables. Leaves: a value whose every key was known and every
//! type right, or `file:line:column: what is wrong; what to do`. Never: a default for a key that was misspelt.

mod error;
mod place;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use error::ConfigError;
use place::{Override, Source};

/// The exit code of every program whose configuration is not usable (EX_CONFIG of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
/// Longest file: a hundred times what a person writes.
const MAX_TEXT: usize = 1024 * 1024;
/// Deepest section: `a.b.c`; ours have two.
const MAX_DEPTH: usize = 16;

/// Reads a file that is meant for [`parse`].
pub fn read(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.display().to_string(), source };
    let mut text = String::new();
    let limit = MAX_TEXT as u64 + 1;
    std::fs::File::open(file)
        .and_then(|opened| opened.take(limit).read_to_string(&mut text))
        .map_err(unreadable)?;
    Ok(text)
}

/// Makes the value that the text and the environment describe. `T` refuses unknown keys
/// (`#[serde(deny_unknown_fields, default)]`) and checks its values in its own types.
///
/// `PREFIX__SECTION__KEY=value` overrides `key` in `[section]`; the value is read as TOML (`8443`, `true`,
/// `["a", "b"]`), and as a plain string where it is not TOML.
pub fn parse<T: DeserializeOwned>(
    file: &str,
    text: &str,
    env_prefix: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    if text.len() > MAX_TEXT {
        return Err(ConfigError::TooLong { file: file.to_owned(), max: MAX_TEXT });
    }
    let overrides = Override::collect(env_prefix, environment);
    let source = Source { file, text, overrides: &overrides };
    source.check_overrides()?;
    let mut document = DeTable::parse(text).map_err(|error| source.syntax_error(&error))?;
    for (index, entry) in overrides.iter().enumerate() {
        let span = source.override_span(index);
        put(document.get_mut(), entry, span).map_err(|problem| entry.error(&problem))?;
    }
    source.check_depth(document.get_ref())?;
    let keys = document.get_ref().clone();
    T::deserialize(toml::Deserializer::from(document)).map_err(|error| source.value_error(&error, &keys))
}

/// The defaults as a file, for `--print-default-config`.
pub fn to_toml<T: Serialize>(defaults: &T) -> Result<String, ConfigError> {
    toml::to_string_pretty(defaults).map_err(|error| ConfigError::Invalid {
        place: "the defaults".to_owned(),
        problem: error.to_string(),
    })
}

/// Sets the override's key, making the sections on its way.
fn put<'i>(root: &mut DeTable<'i>, entry: &'i Override, span: std::ops::Range<usize>) -> Result<(), String> {
    let Some((key, sections)) = entry.path.split_last() else { return Err("no key is named".to_owned()) };
    let mut table = root;
    for section in sections {
        let next = table
            .entry(Spanned::new(span.clone(), section.as_str().into()))
            .or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
        match next.get_mut() {
            DeValue::Table(inner) => table = inner,
            _ => return Err(format!("\"{section}\" is a value and not a section")),
        }
    }
    let value = match DeValue::parse(&entry.value) {
        Ok(parsed) if !parsed.get_ref().is_datetime() => parsed.into_inner(),
        _ => DeValue::String(entry.value.as_str().into()),
    };
    let key = Spanned::new(span.clone(), key.as_str().into());
    table.remove(&key);
    table.insert(key, Spanned::new(span, value));
    Ok(())
}
