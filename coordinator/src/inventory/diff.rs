//! What changed between two states of an inventory section. Pure.
//!
//! A member of a list is named by what identifies it (`gpus[pci_address=0000:17:00.0].serial`), so that a card taken out
//! is one change and not a shift of all that follow.

use serde_json::{Map, Value};

/// Most changes of one section that are kept one by one; beyond it the rest is one change of the whole.
pub(super) const MAX_CHANGES: usize = 256;

/// What may name a member of a list, best first; taken where every member has a value of its own in it.
const IDENTITIES: [&str; 12] = [
    "name",
    "mount_point",
    "location",
    "pci_address",
    "uuid",
    "number",
    "link",
    "id",
    "page_kib",
    "gpu_instance",
    "serial",
    "index",
];

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// Where.
    pub path: String,
    /// The former value; null where it is new.
    pub from: Value,
    /// The value now; null where it is gone.
    pub to: Value,
}

/// All differences, at most [`MAX_CHANGES`].
pub(super) fn diff(from: &Value, to: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(&mut String::new(), from, to, &mut found);
    if found.len() > MAX_CHANGES {
        let left_out = found.len() - (MAX_CHANGES - 1);
        found.truncate(MAX_CHANGES - 1);
        let said = Value::String(format!("and {left_out} more changes"));
        found.push(Difference { path: "…".to_owned(), from: Value::Null, to: said });
    }
    found
}

/// A known fact is its value; anything else is itself.
fn bare(value: &Value) -> &Value {
    match value.as_object() {
        Some(object) if object.len() == 1 => object.get("known").unwrap_or(value),
        _ => value,
    }
}

fn is_unknown(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.len() == 1 && object.contains_key("unknown"))
}

fn walk(path: &mut String, from: &Value, to: &Value, found: &mut Vec<Difference>) {
    let (from, to) = (bare(from), bare(to));
    if from == to {
        return;
    }
    match (from, to) {
        (Value::Object(former), Value::Object(latter)) if !is_unknown(from) && !is_unknown(to) => {
            walk_object(path, former, latter, found);
        }
        (Value::Array(former), Value::Array(latter)) => walk_list(path, former, latter, found),
        _ => found.push(Difference { path: path.clone(), from: from.clone(), to: to.clone() }),
    }
}

/// Runs `inner` with the path grown by `segment`.
fn within(path: &mut String, segment: &str, inner: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(segment);
    inner(path);
    path.truncate(length);
}

fn walk_object(
    path: &mut String,
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    found: &mut Vec<Difference>,
) {
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    for key in to.keys().chain(gone) {
        let segment = if path.is_empty() { key.clone() } else { format!(".{key}") };
        let (former, latter) = (from.get(key), to.get(key));
        within(path, &segment, |path| {
            walk(path, former.unwrap_or(&Value::Null), latter.unwrap_or(&Value::Null), found);
        });
    }
}

/// The member's value of this field, if it is a plain one.
fn identity(member: &Value, field: &str) -> Option<String> {
    match bare(member.get(field)?) {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The members by their identity, where this field gives every one a different value.
fn keyed<'a>(members: &'a [Value], field: &str) -> Option<Vec<(String, &'a Value)>> {
    let keyed: Vec<_> =
        members.iter().map(|member| Some((identity(member, field)?, member))).collect::<Option<_>>()?;
    let distinct: std::collections::HashSet<&str> = keyed.iter().map(|(key, _)| key.as_str()).collect();
    (distinct.len() == keyed.len()).then_some(keyed)
}

fn walk_list(path: &mut String, from: &[Value], to: &[Value], found: &mut Vec<Difference>) {
    let by_identity =
        IDENTITIES.iter().find_map(|field| Some((*field, keyed(from, field)?, keyed(to, field)?)));
    let Some((field, former, latter)) = by_identity else {
        for index in 0..from.len().max(to.len()) {
            let (former, latter) = (from.get(index), to.get(index));
            within(path, &format!("[{index}]"), |path| {
                walk(path, former.unwrap_or(&Value::Null), latter.unwrap_or(&Value::Null), found);
            });
        }
        return;
    };
    let before: std::collections::HashMap<&str, &Value> =
        former.iter().map(|(key, member)| (key.as_str(), *member)).collect();
    let after: std::collections::HashSet<&str> = latter.iter().map(|(key, _)| key.as_str()).collect();
    for (key, member) in &latter {
        let former = before.get(key.as_str()).copied().unwrap_or(&Value::Null);
        within(path, &format!("[{field}={key}]"), |path| walk(path, former, member, found));
    }
    for (key, member) in &former {
        if !after.contains(key.as_str()) {
            within(path, &format!("[{field}={key}]"), |path| walk(path, member, &Value::Null, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn gpu(pci: &str, serial: &str) -> Value {
        json!({"index": 0, "pci_address": {"known": pci}, "serial": {"known": serial}, "state": "working"})
    }

    #[test]
    fn a_changed_serial_is_one_change_named_by_the_cards_place() {
        let from = json!({"gpus": [gpu("0000:17:00.0", "1"), gpu("0000:65:00.0", "2")]});
        let to = json!({"gpus": [gpu("0000:17:00.0", "9"), gpu("0000:65:00.0", "2")]});
        assert_eq!(
            diff(&from, &to),
            [Difference {
                path: "gpus[pci_address=0000:17:00.0].serial".to_owned(),
                from: json!("1"),
                to: json!("9")
            }]
        );
    }

    #[test]
    fn a_card_taken_out_is_one_change_and_shifts_no_other() {
        let from = json!({"gpus": [gpu("0000:17:00.0", "1"), gpu("0000:65:00.0", "2")]});
        let to = json!({"gpus": [gpu("0000:65:00.0", "2")]});
        let found = diff(&from, &to);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "gpus[pci_address=0000:17:00.0]");
        assert_eq!(found[0].to, Value::Null);
    }

    #[test]
    fn known_becomes_unknown_with_its_reason() {
        let from = json!({"serial": {"known": "1"}});
        let to = json!({"serial": {"unknown": "unresponsive"}});
        let found = diff(&from, &to);
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].from, &found[0].to), (&json!("1"), &json!({"unknown": "unresponsive"})));
    }

    #[test]
    fn a_flood_of_changes_is_cut_and_says_so() {
        let from: Vec<_> = (0..1000).map(|n| json!({"name": n, "state": "up"})).collect();
        let to: Vec<_> = (0..1000).map(|n| json!({"name": n, "state": "down"})).collect();
        let found = diff(&json!(from), &json!(to));
        assert_eq!(found.len(), MAX_CHANGES);
        assert_eq!(found[MAX_CHANGES - 1].to, json!("and 745 more changes"));
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<u8>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
            "[a-c]{1,2}".prop_map(|text| json!({"known": text})),
            Just(json!({"unknown": "needs_root"})),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("name|serial|[a-d]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Two states that differ only in the wrapping of known facts are the same state.
    fn unwrapped(value: &Value) -> Value {
        match bare(value) {
            Value::Object(object) => {
                object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), unwrapped(v))).collect()
            }
            Value::Array(list) => list.iter().map(unwrapped).collect(),
            plain => plain.clone(),
        }
    }

    proptest! {
        #[test]
        fn nothing_differs_from_itself_and_a_difference_is_found(from in tree(), to in tree()) {
            prop_assert!(diff(&from, &from).is_empty());
            // Order within a list of named members is not a change.
            if diff(&from, &to).is_empty() && !has_list(&from) {
                prop_assert_eq!(unwrapped(&from), unwrapped(&to));
            }
        }

        #[test]
        fn a_change_has_two_different_sides(from in tree(), to in tree()) {
            for change in diff(&from, &to) {
                prop_assert_ne!(change.from, change.to);
            }
        }
    }

    fn has_list(value: &Value) -> bool {
        match value {
            Value::Array(_) => true,
            Value::Object(object) => object.values().any(has_list),
            _ => false,
        }
    }
}
