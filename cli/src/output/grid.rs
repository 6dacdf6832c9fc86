//! Tables that fit the terminal: first the least needed columns go, then long cells wrap.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell as StyledCell, Color, ColumnConstraint, ContentArrangement, Table, Width};

use super::text;

/// How a cell is meant; shown as colour where colour is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
    /// Not current or not known.
    Dim,
}

impl Tone {
    fn color(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::Green),
            Self::Warn => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
            Self::Dim => Some(Color::DarkGrey),
        }
    }
}

/// One cell: text that is safe for a terminal, and how it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell; the text is escaped here, so that no other place can forget it.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: text::escape(text.as_ref()), tone: Tone::Plain }
    }

    /// The same cell with another meaning.
    #[must_use]
    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// What is not known, where no reason came with it.
    pub(crate) fn unknown() -> Self {
        Self::new("?").tone(Tone::Dim)
    }

    /// What does not apply.
    pub(crate) fn none() -> Self {
        Self::new("-").tone(Tone::Dim)
    }

    /// The value, or `?`.
    pub(crate) fn or_unknown(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(Self::unknown, Self::new)
    }

    /// The value, or `-`.
    pub(crate) fn or_none(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(Self::none, Self::new)
    }

    /// The text, escaped.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// How readily a column goes where the terminal is narrow: the higher, the sooner; 0 stays.
pub(crate) type Expendable = u8;

/// A table before it is fitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grid {
    headers: Vec<(&'static str, Expendable)>,
    rows: Vec<Vec<Cell>>,
}

/// A table as it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fitted {
    /// The lines, without trailing blanks, each ended by a line feed.
    pub(crate) text: String,
    /// Titles of columns that found no room.
    pub(crate) hidden: Vec<&'static str>,
}

/// Blanks between columns.
const GAP: u16 = 2;
/// The last column wraps, but is not made narrower than this.
const NARROWEST: u16 = 20;

impl Grid {
    /// An empty table.
    pub(crate) fn new(headers: impl IntoIterator<Item = (&'static str, Expendable)>) -> Self {
        Self { headers: headers.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// No row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lays the table out; without a width (a pipe, a file) nothing is hidden or wrapped.
    pub(crate) fn fit(&self, width: Option<u16>, color: bool) -> Fitted {
        let mut shown: Vec<usize> = (0..self.headers.len()).collect();
        let widths = self.table(&shown, false).column_max_content_widths();
        let mut hidden = Vec::new();
        while let Some(width) = width
            && least_width(&widths, &shown) > width
        {
            let expendable = shown
                .iter()
                .copied()
                .filter(|&column| self.expendable(column) > 0)
                .max_by_key(|&column| (self.expendable(column), column));
            let Some(column) = expendable else { break };
            shown.retain(|&other| other != column);
            hidden.push(column);
        }
        hidden.sort_unstable();
        Fitted {
            text: self.print(&shown, &widths, width, color),
            hidden: hidden.into_iter().map(|column| self.title(column)).collect(),
        }
    }

    fn title(&self, column: usize) -> &'static str {
        self.headers.get(column).map_or("", |header| header.0)
    }

    fn expendable(&self, column: usize) -> Expendable {
        self.headers.get(column).map_or(0, |header| header.1)
    }

    fn table(&self, shown: &[usize], color: bool) -> Table {
        let mut table = Table::new();
        table.load_preset(NOTHING).force_no_tty();
        if color {
            table.enforce_styling();
        }
        table.set_header(shown.iter().map(|&column| StyledCell::new(self.title(column))));
        for row in &self.rows {
            table.add_row(shown.iter().map(|&column| {
                let Some(cell) = row.get(column) else { return StyledCell::new("") };
                let styled = StyledCell::new(&cell.text);
                match cell.tone.color() {
                    Some(tint) if color => styled.fg(tint),
                    _ => styled,
                }
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        if let Some(last) = table.column_mut(shown.len().saturating_sub(1)) {
            last.set_padding((0, 0));
        }
        table
    }

    fn print(&self, shown: &[usize], widths: &[u16], width: Option<u16>, color: bool) -> String {
        let mut table = self.table(shown, color);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            // Where it can be, only the last column gives way; the others keep the width of their longest cell.
            if least_width(widths, shown) <= width {
                let fixed = shown.len().saturating_sub(1);
                for (column, place) in table.column_iter_mut().zip(shown).take(fixed) {
                    let content = widths.get(*place).copied().unwrap_or_default();
                    column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(content + GAP)));
                }
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The width below which cells would be cut into slivers: only the last column may wrap.
fn least_width(widths: &[u16], shown: &[usize]) -> u16 {
    let Some((last, others)) = shown.split_last() else { return 0 };
    let content = |column: &usize| widths.get(*column).copied().unwrap_or_default();
    let fixed = others.iter().map(|column| content(column).saturating_add(GAP));
    fixed.fold(content(last).min(NARROWEST), u16::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new([("NAME", 0), ("STATE", 0), ("KERNEL", 2), ("OS", 1), ("CONDITIONS", 0)]);
        for name in ["gpu001", "gpu002"] {
            grid.row(vec![
                Cell::new(name),
                Cell::new("present").tone(Tone::Good),
                Cell::new("6.1.0-44-amd64"),
                Cell::new("Debian GNU/Linux 12 (bookworm)"),
                Cell::new("gpu_probe_unresponsive, filesystem_unresponsive"),
            ]);
        }
        grid
    }

    #[test]
    fn a_pipe_gets_everything_on_one_line_each() {
        let fitted = grid().fit(None, false);
        assert!(fitted.hidden.is_empty());
        let lines: Vec<&str> = fitted.text.lines().collect();
        assert_eq!(lines[0], "NAME    STATE    KERNEL          OS                              CONDITIONS");
        assert_eq!(lines.len(), 3, "{}", fitted.text);
        assert!(lines[1].starts_with("gpu001  present  6.1.0-44-amd64  Debian"), "{}", lines[1]);
    }

    #[test]
    fn a_narrow_terminal_loses_the_least_needed_columns_and_no_line_is_too_long() {
        for width in [30, 40, 60, 80, 100, 200] {
            let fitted = grid().fit(Some(width), false);
            let longest = fitted.text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(longest <= usize::from(width), "{width}: {}", fitted.text);
            assert!(fitted.text.contains("gpu001"), "{width}: {}", fitted.text);
        }
        assert_eq!(grid().fit(Some(80), false).hidden, ["KERNEL"]);
        assert_eq!(grid().fit(Some(60), false).hidden, ["KERNEL", "OS"]);
        assert!(grid().fit(Some(200), false).hidden.is_empty());
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        assert!(!grid().fit(None, false).text.contains('\u{1b}'));
        assert!(grid().fit(None, true).text.contains("\u{1b}["));
    }

    #[test]
    fn act_20_a_cell_cannot_hold_control_characters() {
        assert_eq!(Cell::new("a\nb\u{1b}").text(), "a\\nb\\u{1b}");
    }
}
