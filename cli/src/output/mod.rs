//! What the user sees.
//!
//! Enters: the API's JSON. Leaves: a table that fits the terminal, JSON, YAML or names on standard output; notes on
//! standard error. Never: an unescaped text of a node, colour in a pipe, a zero for what is not known.

pub(crate) mod grid;
pub(crate) mod text;

use std::io::{IsTerminal, Write};

use aim_common::units::EpochMs;
use clap::ValueEnum;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::grid::{Cell, Expendable, Grid, Tone};
use crate::error::CliError;

/// `-o`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// A table that fits the terminal.
    #[default]
    Table,
    /// A table with every column, however wide.
    Wide,
    /// The API's own JSON, whole.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

/// `--color`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What cells may depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Now, by the coordinator's clock.
    pub(crate) now: EpochMs,
}

/// One column of a listed thing.
pub(crate) struct Column<T> {
    title: &'static str,
    expendable: Expendable,
    wide: bool,
    cell: fn(&T, View) -> Cell,
}

impl<T> Column<T> {
    /// A column of every table, however narrow the terminal.
    pub(crate) const fn always(title: &'static str, cell: fn(&T, View) -> Cell) -> Self {
        Self { title, expendable: 0, wide: false, cell }
    }

    /// A column that goes where there is no room; the higher the number, the sooner.
    pub(crate) const fn if_room(
        expendable: Expendable,
        title: &'static str,
        cell: fn(&T, View) -> Cell,
    ) -> Self {
        Self { title, expendable, wide: false, cell }
    }

    /// A column of `-o wide` only.
    pub(crate) const fn wide(title: &'static str, cell: fn(&T, View) -> Cell) -> Self {
        Self { title, expendable: 0, wide: true, cell }
    }
}

/// A thing that comes in lists.
pub(crate) trait Listed: DeserializeOwned + 'static {
    /// Its columns, in their order.
    const COLUMNS: &'static [Column<Self>];

    /// Its name for `-o name`.
    fn name(&self) -> String;
}

/// Where and how results are shown.
pub(crate) struct Output {
    /// `-o`
    pub(crate) format: Format,
    width: Option<u16>,
    color: bool,
}

impl Output {
    /// Decides on width and colour from the options and from what standard output is.
    pub(crate) fn new(format: Format, color: ColorChoice) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal
                    && variable("NO_COLOR").is_none()
                    && variable("TERM").is_none_or(|term| term != "dumb")
            }
        };
        // COLUMNS decides where it is exported, which shells do not do by themselves.
        let told = variable("COLUMNS").and_then(|columns| columns.to_str()?.parse().ok());
        let measured = || {
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
            (size.ws_col > 0).then_some(size.ws_col)
        };
        let width = if terminal { measured().or(told) } else { told };
        Self { format, width, color }
    }

    /// Standard output is a terminal that can be drawn on again.
    pub(crate) fn redraws(&self) -> bool {
        std::io::stdout().is_terminal() && matches!(self.format, Format::Table | Format::Wide)
    }

    /// Shows a list.
    pub(crate) fn list<T: Listed>(&self, rows: Vec<Value>, view: View) -> Result<(), CliError> {
        if self.is_data() {
            return self.data(&Value::Array(rows));
        }
        let rows = rows.into_iter().map(typed::<T>).collect::<Result<Vec<_>, _>>()?;
        self.typed_list(&rows, view)
    }

    /// Shows a list as names or as a table.
    pub(crate) fn typed_list<T: Listed>(&self, rows: &[T], view: View) -> Result<(), CliError> {
        if self.format == Format::Name {
            let names: Vec<String> = rows.iter().map(|row| text::escape(&row.name()) + "\n").collect();
            return print(&names.concat());
        }
        print(&self.table(rows, view))
    }

    /// Shows one thing: as JSON, YAML or name, or as the table that the caller makes of it.
    pub(crate) fn one<T: DeserializeOwned>(
        &self,
        value: Value,
        name: fn(&T) -> String,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Json | Format::Yaml => self.data(&value),
            Format::Name => print(&format!("{}\n", text::escape(&name(&typed(value)?)))),
            Format::Table | Format::Wide => print(&table(&typed(value)?)),
        }
    }

    /// The rows as a table.
    pub(crate) fn table<T: Listed>(&self, rows: &[T], view: View) -> String {
        let columns: Vec<&Column<T>> =
            T::COLUMNS.iter().filter(|column| self.format == Format::Wide || !column.wide).collect();
        let mut grid = Grid::new(columns.iter().map(|column| (column.title, column.expendable)));
        for row in rows {
            grid.row(columns.iter().map(|column| (column.cell)(row, view)).collect());
        }
        if grid.is_empty() {
            note("none");
            return String::new();
        }
        self.grid(&grid)
    }

    /// A table, fitted; says on standard error what found no room.
    pub(crate) fn grid(&self, grid: &Grid) -> String {
        let width = if self.format == Format::Wide { None } else { self.width };
        let fitted = grid.fit(width, self.color);
        if !fitted.hidden.is_empty() {
            note(&format!("no room for {}: use a wider terminal or -o wide", fitted.hidden.join(", ")));
        }
        fitted.text
    }

    /// Names and values in two columns.
    pub(crate) fn pairs(&self, pairs: Vec<(&'static str, Cell)>) -> String {
        let mut grid = Grid::new([("", 0), ("", 0)]);
        for (name, value) in pairs {
            grid.row(vec![Cell::new(name), value]);
        }
        // The header is empty here.
        let text = self.grid(&grid);
        text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned())
    }

    /// Shows data as JSON, or as YAML where that was asked for.
    pub(crate) fn data(&self, value: &Value) -> Result<(), CliError> {
        print(&if self.format == Format::Yaml { yaml(value)? } else { json(value)? })
    }

    /// One document of a stream: a line of JSON, or a YAML document.
    pub(crate) fn stream_item(&self, value: &Value) -> Result<(), CliError> {
        match self.format {
            Format::Yaml => print(&format!(
                "---
{}",
                yaml(value)?
            )),
            _ => print(&format!("{}\n", text::escape_json(&value.to_string()))),
        }
    }

    /// The format asks for data rather than for a table.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }
}

fn json(value: &Value) -> Result<String, CliError> {
    serde_json::to_string_pretty(value)
        .map(|written| format!("{}\n", text::escape_json(&written)))
        .map_err(|error| CliError::Failed(format!("writing JSON: {error}")))
}

fn yaml(value: &Value) -> Result<String, CliError> {
    serde_yaml_ng::to_string(value).map_err(|error| CliError::Failed(format!("writing YAML: {error}")))
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A remark for a person, on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Reads the API's JSON as its type.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(|error| CliError::BadAnswer {
        tried: "reading the answer".to_owned(),
        detail: format!("{error}; is aimctl older than the coordinator? -o json shows the answer as it is"),
    })
}
