//! JSON from outside: how deep it may nest (INJ-02). The parser's own limit is four times that.

/// Levels of lists and objects in any JSON that a peer sends.
pub const MAX_DEPTH: usize = 32;

/// Whether lists and objects nest deeper than [`MAX_DEPTH`]; looks at each byte once and allocates nothing.
///
/// What is no JSON may get either answer: the parser refuses it.
pub fn is_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn inj_02_json_nests_32_levels_and_not_33() {
        assert!(!is_too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(is_too_deep(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(is_too_deep("[".repeat(100_000).as_bytes()));
        assert!(is_too_deep("{\"a\":".repeat(100_000).as_bytes()));
        // Brackets in a text are no levels, whatever is escaped there.
        assert!(!is_too_deep(format!("[\"{}\"]", "[".repeat(100)).as_bytes()));
        assert!(!is_too_deep(format!("[\"\\\"{}\\\\\", 1]", "{".repeat(100)).as_bytes()));
        assert!(is_too_deep(format!("[\"\\\\\", {}", "[".repeat(40)).as_bytes()));
        // Side by side is not deep.
        assert!(!is_too_deep("[[],{}],".repeat(1_000).as_bytes()));
    }

    fn depth_of(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            serde_json::Value::Object(items) => 1 + items.values().map(depth_of).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn inj_02_the_count_is_the_parsers_own(levels in 0_usize..64, text in "[\\[\\]{}\"\\\\a]{0,20}") {
            let mut value = serde_json::Value::String(text.clone());
            for level in 0..levels {
                value = if level % 2 == 0 { serde_json::json!([value]) } else { serde_json::json!({ text.clone(): value }) };
            }
            prop_assert_eq!(is_too_deep(value.to_string().as_bytes()), depth_of(&value) > MAX_DEPTH);
        }
    }
}
