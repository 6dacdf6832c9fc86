use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{HostList, HostListError, MAX_NAMES, MAX_TEXT, Problem};

fn names(text: &str) -> Vec<String> {
    HostList::parse(text).unwrap().into_iter().map(String::from).collect()
}

fn problem(text: &str) -> (usize, Problem) {
    match HostList::parse(text) {
        Err(HostListError::At { character, problem }) => (character, problem),
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn ranges_keep_their_padding() {
    assert_eq!(
        names("gpu[008-011,130],login1"),
        ["gpu008", "gpu009", "gpu010", "gpu011", "gpu130", "login1"]
    );
    assert_eq!(names("n[9-11]"), ["n9", "n10", "n11"]);
    assert_eq!(names("n[98-101]"), ["n98", "n99", "n100", "n101"]);
}

#[test]
fn several_brackets_are_a_product() {
    assert_eq!(names("r[1-2]n[01-02].x"), ["r1n01.x", "r1n02.x", "r2n01.x", "r2n02.x"]);
}

#[test]
fn commas_and_white_space_separate_and_repeats_count_once() {
    assert_eq!(names(" a1 , a2\na3\tA1,a[2-3] \n"), ["a1", "a2", "a3"]);
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    assert_eq!(HostList::parse(" \n"), Err(HostListError::Empty));
    assert_eq!(problem("a,,b"), (3, Problem::MissingName));
    assert_eq!(problem(",a"), (1, Problem::MissingName));
    assert_eq!(problem("a, "), (2, Problem::MissingName));
    assert_eq!(problem("gpu[1-3"), (4, Problem::Unclosed));
    assert_eq!(problem("gpu[1-"), (4, Problem::Unclosed));
    assert_eq!(problem("gpu1]"), (5, Problem::Unopened));
    assert_eq!(problem("g[1[2]]"), (4, Problem::Nested));
    assert_eq!(problem("g[]"), (3, Problem::NotANumber));
    assert_eq!(problem("g[1,x]"), (5, Problem::NotANumber));
    assert_eq!(problem("g[1234567890123456789]"), (3, Problem::NotANumber));
    assert_eq!(problem("g[7-3]"), (5, Problem::Backwards));
    assert_eq!(problem("g[001-8]"), (7, Problem::Padding { expected: "008".into() }));
    assert_eq!(problem("g[1-08]"), (5, Problem::Padding { expected: "8".into() }));
    assert!(matches!(problem("ok,höst1"), (4, Problem::Name(_))));
    assert_eq!(
        HostList::parse("g[7-3]").unwrap_err().to_string(),
        "host list, character 5: the range ends before it starts; write the smaller number first"
    );
}

#[test]
fn hostile_lists_are_refused_before_they_are_written_out() {
    assert_eq!(HostList::parse("a[0-999999999999999999]"), Err(HostListError::TooManyNames));
    assert_eq!(HostList::parse(&"[0-9]".repeat(MAX_TEXT / 5)), Err(HostListError::TooManyNames));
    assert_eq!(
        HostList::parse(&"a".repeat(MAX_TEXT + 1)),
        Err(HostListError::TextTooLong { len: MAX_TEXT + 1 })
    );
    assert!(matches!(HostList::parse(&"a".repeat(MAX_TEXT)), Err(HostListError::At { .. })));
    assert_eq!(HostList::parse("a[1-100001]"), Err(HostListError::TooManyNames));
    assert_eq!(HostList::parse("a[1-100000]").unwrap().len(), MAX_NAMES);
}

#[test]
fn names_fold_as_a_person_counts() {
    assert_eq!(HostList::fold(["n10", "n9", "n2", "n1", "login"]), "login,n[1-2,9-10]");
    assert_eq!(HostList::fold(["g01", "g1", "g2", "g02"]), "g[1,01,2,02]");
    assert_eq!(HostList::fold(["g007"]), "g007");
    assert_eq!(HostList::fold(["g099", "g100", "g101", "g0102"]), "g[099-101,0102]");
    assert_eq!(HostList::fold(["r2n02", "r1n01", "r1n02", "r2n01", "r3n01"]), "r[1-2]n[01-02],r3n01");
    assert_eq!(HostList::fold(std::iter::empty::<&str>()), "");
}

#[test]
fn a_hundred_thousand_names_fold_to_one_term() {
    let list = HostList::parse("rack[01-50]-gpu[0001-2000]").unwrap();
    assert_eq!(list.len(), MAX_NAMES);
    assert_eq!(list.to_string(), "rack[01-50]-gpu[0001-2000]");
}

fn any_names() -> impl Strategy<Value = BTreeSet<String>> {
    // Few letters and small numbers, so that runs and near misses are frequent.
    let name = ("[ab]", 0_u32..30, 1_usize..4, "(|-x|\\.y)", proptest::option::of((0_u32..12, 1_usize..3)));
    proptest::collection::btree_set(
        name.prop_map(|(prefix, first, width, middle, second)| {
            let second = second.map(|(number, width)| format!("n{number:0width$}")).unwrap_or_default();
            format!("{prefix}{first:0width$}{middle}{second}")
        }),
        1..60,
    )
}

proptest! {
    #[test]
    fn fold_then_parse_gives_the_same_names(expected in any_names()) {
        let folded = HostList::fold(&expected);
        let back: BTreeSet<String> = names(&folded).into_iter().collect();
        prop_assert_eq!(back, expected, "{}", folded);
    }

    #[test]
    fn parse_then_fold_is_stable(expected in any_names()) {
        let folded = HostList::fold(&expected);
        prop_assert_eq!(HostList::parse(&folded).unwrap().to_string(), folded);
    }

    #[test]
    fn no_text_panics_or_gives_too_many(text in "[a-c0-9\\[\\],\\- é]{0,40}|\\PC{0,60}") {
        if let Ok(list) = HostList::parse(&text) {
            prop_assert!(list.len() >= 1 && list.len() <= MAX_NAMES);
        }
    }
}
