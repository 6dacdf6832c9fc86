//! What a list of nodes may be asked: filters, search, order. Every name is from a closed list (INJ-05).

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt::Write;

use aim_common::api::nodes::{NodeSummary, Presence};
use aim_common::hostlist::HostList;
use aim_common::identity::{NodeId, NodeName};
use serde::{Deserialize, Serialize};

use crate::api::cursor;
use crate::api::page::PageRequest;
use crate::api::problem::ApiError;
use crate::inventory::{Moment, NodeState, Utilization};

/// Longest text of a filter or search.
const MAX_TEXT: usize = 256;
/// Most label filters in one request.
const MAX_LABELS: usize = 16;

/// The documentation of the query; the query itself is read by [`NodeQuery::parse`], because labels have names.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only documents the parameters")]
pub(super) struct Parameters {
    /// At most so many, 1,000 at most.
    limit: Option<u32>,
    /// From the former page.
    cursor: Option<String>,
    /// The whole list as NDJSON, one node a line, without pages.
    all: Option<bool>,
    /// `name`, `presence`, `enrolled_at`, `last_seen`, `gpu_model`, `cpu_utilization`, `gpu_utilization` or
    /// `memory_bytes`; with `-` before it downwards.
    sort: Option<String>,
    /// The node of this name.
    name: Option<String>,
    /// Nodes of this host list (`gpu[001-128]`).
    hosts: Option<String>,
    /// `present`, `absent` or `never_seen`.
    presence: Option<String>,
    /// In this group.
    group: Option<String>,
    /// With this GPU model, or part of it.
    gpu_model: Option<String>,
    /// In this degraded mode (`gpu_probe_unresponsive`).
    condition: Option<String>,
    /// With this text in name, labels, models or serials; `search` is the same.
    q: Option<String>,
    /// With this label: `label.rack=a12`.
    #[serde(rename = "label.KEY")]
    #[param(rename = "label.KEY")]
    label: Option<String>,
}

/// What a list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SortField {
    Name,
    Presence,
    EnrolledAt,
    LastSeen,
    GpuModel,
    CpuUtilization,
    GpuUtilization,
    MemoryBytes,
}

impl SortField {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "name" => Self::Name,
            "presence" => Self::Presence,
            "enrolled_at" => Self::EnrolledAt,
            "last_seen" => Self::LastSeen,
            "gpu_model" => Self::GpuModel,
            "cpu_utilization" => Self::CpuUtilization,
            "gpu_utilization" => Self::GpuUtilization,
            "memory_bytes" => Self::MemoryBytes,
            _ => return None,
        })
    }
}

/// The order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sort {
    field: SortField,
    descending: bool,
}

/// A value to order by; what is not known comes last upwards and downwards.
#[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Key {
    Number(f64),
    Text(String),
    Unknown(()),
}

/// A node's place in the order; the id makes it unique.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) sort: Sort,
    pub(super) key: Key,
    pub(super) id: NodeId,
}

impl Place {
    /// The order of the list.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (&self.key, &other.key);
        let by_key = match (mine, theirs) {
            (Key::Unknown(()), Key::Unknown(())) => Ordering::Equal,
            (Key::Unknown(()), _) => Ordering::Greater,
            (_, Key::Unknown(())) => Ordering::Less,
            _ => {
                let upwards = mine.partial_cmp(theirs).unwrap_or(Ordering::Equal);
                if self.sort.descending { upwards.reverse() } else { upwards }
            }
        };
        by_key.then_with(|| self.id.cmp(&other.id))
    }
}

/// A whole query.
#[derive(Debug)]
pub(super) struct NodeQuery {
    pub(super) limit: u32,
    pub(super) after: Option<Place>,
    pub(super) all: bool,
    sort: Sort,
    names: Option<HashSet<String>>,
    presence: Option<&'static str>,
    labels: Vec<(String, String)>,
    group: Option<String>,
    gpu_model: Option<String>,
    condition: Option<String>,
    search: Option<String>,
}

impl NodeQuery {
    /// Reads the parameters; an unknown one is refused, so that a misspelt filter does not show everything.
    pub(super) fn parse(parameters: &[(String, String)]) -> Result<Self, ApiError> {
        let mut query = Self {
            limit: PageRequest::new(None, None)?.limit,
            after: None,
            all: false,
            sort: Sort { field: SortField::Name, descending: false },
            names: None,
            presence: None,
            labels: Vec::new(),
            group: None,
            gpu_model: None,
            condition: None,
            search: None,
        };
        for (name, value) in parameters {
            query.set(name, value)?;
        }
        if query.after.as_ref().is_some_and(|place| place.sort != query.sort) {
            return Err(ApiError::invalid("cursor", "the cursor is of a list with another order"));
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let text = || {
            if value.len() > MAX_TEXT {
                return Err(ApiError::invalid(name, format!("give at most {MAX_TEXT} bytes")));
            }
            Ok(value.to_owned())
        };
        match name {
            "limit" => {
                let limit = value.parse().map_err(|_| ApiError::invalid("limit", "it is not a number"))?;
                self.limit = PageRequest::new(Some(limit), None)?.limit;
            }
            "cursor" => self.after = Some(cursor::read(value)?),
            "all" => {
                self.all = value.parse().map_err(|_| ApiError::invalid("all", "say true or false"))?;
            }
            "sort" => self.sort = sort(value)?,
            "name" => {
                // What is not a name is nobody's.
                self.keep_names(value.parse().ok().iter());
            }
            "hosts" => {
                let hosts =
                    HostList::parse(value).map_err(|error| ApiError::invalid("hosts", error.to_string()))?;
                self.keep_names(hosts.iter());
            }
            "presence" => {
                let known = ["present", "absent", "silent", "never_seen"];
                let word = known.into_iter().find(|known| *known == value);
                let refuse = || ApiError::invalid("presence", "say present, absent or never_seen");
                self.presence = Some(word.ok_or_else(refuse)?);
            }
            "group" => self.group = Some(text()?),
            "gpu_model" => self.gpu_model = Some(text()?.to_lowercase()),
            "condition" => self.condition = Some(text()?),
            "q" | "search" => self.search = Some(text()?.to_ascii_lowercase()),
            _ => {
                let key = name.strip_prefix("label.").filter(|key| !key.is_empty());
                let refuse = || ApiError::invalid(name, "there is no such parameter");
                let key = key.ok_or_else(refuse)?;
                if self.labels.len() >= MAX_LABELS {
                    return Err(ApiError::invalid(name, format!("give at most {MAX_LABELS} labels")));
                }
                self.labels.push((key.to_owned(), text()?));
            }
        }
        Ok(())
    }

    fn keep_names<'a>(&mut self, names: impl Iterator<Item = &'a NodeName>) {
        let names: HashSet<String> = names.map(NodeName::canonical).collect();
        self.names = Some(match self.names.take() {
            Some(former) => former.intersection(&names).cloned().collect(),
            None => names,
        });
    }

    /// The node is asked for.
    pub(super) fn matches(&self, state: &NodeState) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(&state.name.canonical()))
            && self.presence.is_none_or(|word| presence_word(&state.presence) == word)
            && self.labels.iter().all(|(key, value)| state.labels.get(key) == Some(value))
            && self.group.as_ref().is_none_or(|group| state.groups.contains(group))
            && self.gpu_model.as_ref().is_none_or(|wanted| {
                state.facts.gpu_model.as_ref().is_some_and(|model| model.to_lowercase().contains(wanted))
            })
            && self.condition.as_ref().is_none_or(|wanted| {
                state.conditions_in_force().iter().any(|condition| condition.name == *wanted)
            })
            && self.search.as_ref().is_none_or(|wanted| found(state, wanted))
    }

    /// The node's place in the order.
    pub(super) fn place(&self, id: NodeId, state: &NodeState, now: Moment) -> Place {
        Place { sort: self.sort, key: key(self.sort.field, state, now), id }
    }
}

fn sort(text: &str) -> Result<Sort, ApiError> {
    let (word, descending) = text.strip_prefix('-').map_or((text, false), |word| (word, true));
    let field = SortField::parse(word).ok_or_else(|| {
        let known = "name, presence, enrolled_at, last_seen, gpu_model, cpu_utilization, gpu_utilization, memory_bytes";
        ApiError::invalid("sort", format!("order by one of {known}"))
    })?;
    Ok(Sort { field, descending })
}

fn presence_word(presence: &Presence) -> &'static str {
    match presence {
        Presence::NeverSeen => "never_seen",
        Presence::Present { .. } => "present",
        Presence::Silent { .. } => "silent",
        Presence::Absent { .. } => "absent",
    }
}

fn found(state: &NodeState, wanted: &str) -> bool {
    let contains = |text: &str| text.to_ascii_lowercase().contains(wanted);
    contains(state.name.as_str())
        || state.facts.search.contains(wanted)
        || state.labels.iter().any(|(key, value)| contains(key) || contains(value))
}

/// Numbers within a name count as numbers: gpu9 comes before gpu10.
fn natural(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 8);
    let mut digits = String::new();
    for character in name.to_ascii_lowercase().chars().chain(std::iter::once('\0')) {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        if !digits.is_empty() {
            let value = digits.trim_start_matches('0');
            // The length first: a longer number is a greater one.
            let _ = write!(key, "{:03}{value}", value.len());
            digits.clear();
        }
        if character != '\0' {
            key.push(character);
        }
    }
    key
}

#[expect(clippy::cast_precision_loss, reason = "only orders")]
fn key(field: SortField, state: &NodeState, now: Moment) -> Key {
    let number = |value: Option<f64>| value.map_or(Key::Unknown(()), Key::Number);
    let current = || if state.is_present() { state.series.utilization(now) } else { Utilization::default() };
    match field {
        SortField::Name => Key::Text(natural(state.name.as_str())),
        SortField::Presence => Key::Text(presence_word(&state.presence).to_owned()),
        SortField::EnrolledAt => Key::Number(state.enrolled_at.0 as f64),
        SortField::LastSeen => number(state.last_seen.map(|seen| seen.wall.0 as f64)),
        SortField::GpuModel => state.facts.gpu_model.clone().map_or(Key::Unknown(()), Key::Text),
        SortField::CpuUtilization => number(current().cpu),
        SortField::GpuUtilization => number(current().gpu),
        SortField::MemoryBytes => number(state.facts.memory_bytes.map(|bytes| bytes as f64)),
    }
}

/// The summary without what changes by itself: what the ETag covers.
pub(super) fn stable(mut summary: NodeSummary) -> NodeSummary {
    summary.last_seen = None;
    summary.last_seen_age_ms = None;
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> Result<NodeQuery, ApiError> {
        let owned: Vec<_> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        NodeQuery::parse(&owned)
    }

    #[test]
    fn inj_05_only_known_parameters_and_orders_are_taken() {
        for refused in [
            ("nmae", "x"),
            ("sort", "name; DROP TABLE nodes"),
            ("sort", "labels"),
            ("presence", "%"),
            ("label.", "x"),
        ] {
            assert!(parse(&[refused]).is_err(), "{refused:?}");
        }
        assert!(parse(&[("sort", "-gpu_utilization"), ("label.rack", "' OR ''='"), ("q", "%_\\")]).is_ok());
    }

    #[test]
    fn numbers_in_names_are_ordered_as_numbers() {
        let mut names = ["gpu10", "gpu9", "gpu009", "login1", "gpu1a", "GPU2"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["gpu1a", "GPU2", "gpu9", "gpu009", "gpu10", "login1"]);
    }

    #[test]
    fn the_unknown_comes_last_both_ways() {
        let place = |key, descending, id: u8| Place {
            sort: Sort { field: SortField::CpuUtilization, descending },
            key,
            id: NodeId::from_random([id; 16]),
        };
        for descending in [false, true] {
            let unknown = place(Key::Unknown(()), descending, 1);
            assert_eq!(unknown.compare(&place(Key::Number(0.5), descending, 2)), Ordering::Greater);
        }
    }
}
