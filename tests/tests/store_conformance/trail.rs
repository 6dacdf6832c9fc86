//! The audit trail, sealed secrets, the Salt master's key.

use aim_coordinator::store::Store;
use aim_coordinator::store::audit::{AuditFilter, Decision, GENESIS, NewAuditRecord};
use aim_coordinator::store::salt::SaltKeyRow;

use crate::made::{HOUR, NOW, record, records};

pub(crate) async fn records_form_a_chain_that_is_read_both_ways(store: Store) {
    store.ping().await.unwrap();
    assert_eq!(store.audit_last().await.unwrap(), None);
    for number in 1..=5 {
        let decision = if number == 3 { Decision::Denied } else { Decision::Allowed };
        let appended = NewAuditRecord { decision, ..record("token.create") };
        assert_eq!(store.audit_append(&appended).await.unwrap(), number);
    }
    let chain = store.audit_chain(0, 10).await.unwrap();
    let mut previous = GENESIS.to_owned();
    for (row, number) in chain.iter().zip(1..) {
        assert_eq!((row.sequence, &row.previous_hash), (number, &previous));
        assert_eq!(row.hash, row.expected_hash(), "what was stored is what was hashed");
        assert_eq!(store.audit_hash(number).await.unwrap().as_ref(), Some(&row.hash));
        previous.clone_from(&row.hash);
    }
    assert_eq!(chain.len(), 5);
    assert_eq!(store.audit_hash(6).await.unwrap(), None);
    assert_eq!(store.audit_last().await.unwrap(), Some((5, previous)));
    assert_eq!(store.audit_chain(3, 1).await.unwrap()[0].sequence, 4);

    let sequences = async |filter: &AuditFilter, before, limit| {
        let (rows, _) = store.audit_page(filter, before, limit).await.unwrap();
        rows.iter().map(|row| row.sequence).collect::<Vec<_>>()
    };
    let all = AuditFilter::default();
    assert_eq!(sequences(&all, i64::MAX, 3).await, [5, 4, 3]);
    assert_eq!(sequences(&all, 3, 3).await, [2, 1]);
    let denied = AuditFilter { decision: Some("denied".to_owned()), ..all.clone() };
    assert_eq!(sequences(&denied, i64::MAX, 9).await, [3]);
    let nobody = AuditFilter { actor: Some("user:nobody".to_owned()), ..all.clone() };
    let action = AuditFilter { action: Some("token.create".to_owned()), ..all.clone() };
    for (filter, count) in [(&all, 5), (&denied, 1), (&nobody, 0), (&action, 5)] {
        assert_eq!(records(&store, filter).await, count, "{filter:?}");
    }
}

pub(crate) async fn concurrent_appends_leave_no_gap(store: Store) {
    let appends = (0..40).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.audit_append(&record("node.label")).await.unwrap() })
    });
    let mut sequences = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        sequences.push(append.await.unwrap());
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=40).collect::<Vec<i64>>());
    let chain = store.audit_chain(0, 100).await.unwrap();
    assert!(chain.windows(2).all(|pair| pair[0].hash == pair[1].previous_hash));
}

pub(crate) async fn sealed_secrets_are_kept_once_and_replaced_whole(store: Store) {
    assert_eq!(store.sealed("jwt").await.unwrap(), None);
    assert_eq!(store.sealed_at("jwt").await.unwrap(), None);
    store.seal_once("jwt", "first", NOW).await.unwrap();
    store.seal_once("jwt", "of another coordinator, too late", NOW.plus_ms(1)).await.unwrap();
    assert_eq!(store.sealed("jwt").await.unwrap().as_deref(), Some("first"));
    assert_eq!(store.sealed_at("jwt").await.unwrap(), Some(NOW));
    for (sealed, former) in [("second", "first"), ("third", "second")] {
        store.reseal("jwt", "jwt.former", sealed, NOW.plus_ms(2)).await.unwrap();
        assert_eq!(store.sealed("jwt").await.unwrap().as_deref(), Some(sealed));
        assert_eq!(store.sealed("jwt.former").await.unwrap().as_deref(), Some(former));
    }
}

pub(crate) async fn the_salt_key_is_replaced_only_on_request(store: Store) {
    let key =
        |pem: &str| SaltKeyRow { pem: pem.to_owned(), imported_at: NOW, imported_by: "host:root".to_owned() };
    let import = record("salt_key.import");
    assert_eq!(store.salt_key().await.unwrap(), None);
    assert!(store.salt_key_put(&key("one\n"), false, &import).await.unwrap());
    assert!(store.salt_key_put(&key("one\n"), false, &import).await.unwrap(), "the same again");
    assert!(!store.salt_key_put(&key("two\n"), false, &import).await.unwrap());
    assert_eq!(store.salt_key().await.unwrap(), Some(key("one\n")));
    assert!(store.salt_key_put(&key("two\n"), true, &import).await.unwrap());
    assert_eq!(store.salt_key().await.unwrap(), Some(key("two\n")));
    assert_eq!(records(&store, &AuditFilter::default()).await, 3, "one record for each change");
}

pub(crate) async fn old_records_end_and_the_rest_is_still_a_chain(store: Store) {
    for hour in 0..6 {
        let appended = NewAuditRecord { at: NOW.plus_ms(hour * HOUR), ..record("node.label") };
        store.audit_append(&appended).await.unwrap();
    }
    let prune = async |before: i64, overdue: i64, most| {
        let signed = |through: i64, hash: &str| NewAuditRecord {
            detail: serde_json::json!({ "through": through, "hash": hash }),
            ..record("audit.prune")
        };
        store.audit_prune(NOW.plus_ms(before), NOW.plus_ms(overdue), most, signed).await.unwrap()
    };
    assert_eq!(prune(0, 0, 100).await, None, "nothing is that old");
    assert_eq!(prune(3 * HOUR, 0, 100).await, None, "nothing is overdue");
    let kept = store.audit_hash(3).await.unwrap().unwrap();
    assert_eq!(prune(3 * HOUR, 1, 2).await, Some(2), "not more than asked for at once");
    assert_eq!(prune(3 * HOUR, 3 * HOUR, 100).await, Some(3));
    let chain = store.audit_chain(0, 100).await.unwrap();
    let sequences: Vec<_> = chain.iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, [4, 5, 6, 7, 8]);
    assert_eq!(chain[0].previous_hash, kept);
    assert!(chain.windows(2).all(|pair| pair[0].hash == pair[1].previous_hash));
    assert!(chain[4].detail.contains(&kept), "the last record says behind which one the trail begins");
}
