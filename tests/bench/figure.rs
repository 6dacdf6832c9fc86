//! One row of the table, and the table.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// A measured figure beside its peer and its limit. `ratio` is value / peer value, measured in the same run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) peer: String,
    pub(crate) peer_value: Option<f64>,
    pub(crate) ratio: Option<f64>,
    pub(crate) note: String,
    /// What the figure must hold, and whether a smaller value is the better one.
    #[serde(skip)]
    pub(crate) hold: Hold,
}

/// The bar of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hold {
    AtMost(f64),
    AtLeast(f64),
}

impl Hold {
    fn is_held(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl Figure {
    pub(crate) fn new(name: &'static str, value: f64, unit: &'static str, hold: Hold) -> Self {
        Self {
            name,
            value,
            unit,
            peer: String::new(),
            peer_value: None,
            ratio: None,
            note: String::new(),
            hold,
        }
    }

    /// Sets the peer that the ratio is taken against.
    pub(crate) fn against(mut self, peer: &str, peer_value: f64) -> Self {
        peer.clone_into(&mut self.peer);
        self.peer_value = Some(peer_value);
        self.ratio = (peer_value > 0.0).then(|| self.value / peer_value);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// Prints the table and writes `results.json`; gives the names of the figures that are not held.
pub(crate) fn report(figures: &[Figure], results: &Path) -> anyhow::Result<Vec<&'static str>> {
    println!(
        "{:<32} {:>12} {:<14} {:>12} {:<34} {:>7}  note",
        "figure", "value", "unit", "hold", "peer", "ratio"
    );
    for figure in figures {
        let hold = match figure.hold {
            Hold::AtMost(limit) => format!("<= {limit}"),
            Hold::AtLeast(limit) => format!(">= {limit}"),
        };
        let peer =
            figure.peer_value.map_or_else(|| "-".to_owned(), |value| format!("{} {value:.2}", figure.peer));
        let ratio = figure.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        println!(
            "{:<32} {:>12.3} {:<14} {:>12} {:<34} {:>7}  {}",
            figure.name, figure.value, figure.unit, hold, peer, ratio, figure.note
        );
    }
    if let Some(folder) = results.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let json = serde_json::to_string_pretty(figures)?;
    std::fs::write(results, json).with_context(|| format!("cannot write {}", results.display()))?;
    Ok(figures.iter().filter(|figure| !figure.hold.is_held(figure.value)).map(|figure| figure.name).collect())
}
