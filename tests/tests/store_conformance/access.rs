//! Users, roles, sessions.

use aim_common::api::auth::LoginMode;
use aim_common::permission::Permission;
use aim_coordinator::store::audit::AuditFilter;
use aim_coordinator::store::roles::{RoleDeletion, RoleRow};
use aim_coordinator::store::sessions::{NewSession, Rotation, RotationOutcome};
use aim_coordinator::store::users::{UserChange, UserOutcome};
use aim_coordinator::store::{Store, StoreError};

use crate::made::{HOUR, NOW, record, records, user, user_id};

fn permissions(texts: &[&str]) -> Vec<Permission> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn role(name: &str, texts: &[&str]) -> RoleRow {
    RoleRow { name: name.to_owned(), template: true, permissions: permissions(texts) }
}

/// The template `admin`, and `li` who holds it.
async fn with_admin(store: &Store) {
    store.seed_roles(&[role("admin", &["*:*:*"]), role("engineer", &["hosts:read:*"])]).await.unwrap();
    store.create_user(&user(1, "li", &["admin"]), NOW, &record("user.create")).await.unwrap();
}

fn session(id: &str, number: u8) -> NewSession {
    NewSession {
        id: id.to_owned(),
        user_id: user_id(number),
        mode: LoginMode::Cookie,
        csrf_sha256: Some("csrf one".to_owned()),
        source: "192.0.2.1".to_owned(),
        at: NOW,
        expires_at: NOW.plus_ms(12 * HOUR),
        refresh_sha256: format!("refresh one of {id}"),
    }
}

fn rotation(used: &str, new: &str) -> Rotation {
    Rotation {
        used_sha256: used.to_owned(),
        refresh_sha256: new.to_owned(),
        csrf_sha256: Some("csrf two".to_owned()),
        at: NOW.plus_ms(HOUR),
        expires_at: NOW.plus_ms(13 * HOUR),
    }
}

pub(crate) async fn users_are_found_changed_and_deleted(store: Store) {
    assert_eq!(store.user_count().await.unwrap(), 0);
    with_admin(&store).await;
    store
        .create_user(&user(2, "Zhang.San", &["engineer", "engineer"]), NOW, &record("user.create"))
        .await
        .unwrap();
    let again = store.create_user(&user(3, "zhang.SAN", &[]), NOW, &record("user.create")).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    assert_eq!(store.user_count().await.unwrap(), 2);
    assert_eq!(store.users_with_generated_password().await.unwrap(), ["li"]);
    let zhang = store.user_by_name("zhang.san").await.unwrap().unwrap();
    assert_eq!((zhang.username.as_str(), zhang.enabled), ("Zhang.San", true));
    assert_eq!(
        (zhang.roles.as_slice(), zhang.groups.as_slice()),
        (&["engineer".to_owned()][..], &["blue".to_owned()][..])
    );
    assert_eq!(store.user_by_id(&user_id(2)).await.unwrap(), Some(zhang));
    assert_eq!(store.user_by_id(&user_id(9)).await.unwrap(), None);
    assert_eq!(store.permissions_of(&user_id(2)).await.unwrap(), permissions(&["hosts:read:*"]));
    let (first, total) = store.users("", 1).await.unwrap();
    assert_eq!((first.len(), total, first[0].username.as_str()), (1, 2, "li"));
    assert_eq!(store.users("li", 9).await.unwrap().0[0].username, "Zhang.San");

    store.open_session(&session("kept", 2), &record("auth.login")).await.unwrap();
    store.open_session(&session("ended", 2), &record("auth.login")).await.unwrap();
    let change = UserChange {
        password: Some(("$2b$12$other".to_owned(), true)),
        roles: Some(vec![]),
        groups: Some(vec!["red".to_owned()]),
        enabled: Some(false),
        end_sessions_except: Some(Some("kept".to_owned())),
    };
    let changed = store.change_user(&user_id(2), &change, NOW, &record("user.change")).await.unwrap();
    assert_eq!(changed, UserOutcome::Done);
    let zhang = store.user_by_id(&user_id(2)).await.unwrap().unwrap();
    assert_eq!(
        (zhang.password_hash.as_str(), zhang.password_generated, zhang.enabled),
        ("$2b$12$other", true, false)
    );
    assert_eq!((zhang.roles.len(), zhang.groups.as_slice()), (0, &["red".to_owned()][..]));
    assert_eq!(zhang.last_login_at, Some(NOW));
    assert_eq!(store.session("kept").await.unwrap().unwrap().ended_at, None);
    assert_eq!(store.session("ended").await.unwrap().unwrap().ended_at, Some(NOW));
    let nothing = UserChange::default();
    let missing = store.change_user(&user_id(9), &nothing, NOW, &record("user.change")).await.unwrap();
    assert_eq!(missing, UserOutcome::Missing);
    assert_eq!(store.delete_user(&user_id(2), &record("user.delete")).await.unwrap(), UserOutcome::Done);
    assert_eq!(store.delete_user(&user_id(2), &record("user.delete")).await.unwrap(), UserOutcome::Missing);
    assert_eq!(store.session("kept").await.unwrap(), None);
}

pub(crate) async fn the_last_administrator_stays(store: Store) {
    with_admin(&store).await;
    let without = UserChange { roles: Some(vec![]), ..UserChange::default() };
    let disabled = UserChange { enabled: Some(false), ..UserChange::default() };
    for change in [&without, &disabled] {
        let refused = store.change_user(&user_id(1), change, NOW, &record("user.change")).await.unwrap();
        assert_eq!(refused, UserOutcome::LastAdmin);
    }
    assert_eq!(store.delete_user(&user_id(1), &record("user.delete")).await.unwrap(), UserOutcome::LastAdmin);
    let li = store.user_by_id(&user_id(1)).await.unwrap().unwrap();
    assert_eq!((li.enabled, li.roles.as_slice()), (true, &["admin".to_owned()][..]), "nothing was half done");

    // Two administrators who remove each other at once: one of them stays.
    store.create_user(&user(2, "wang", &["admin"]), NOW, &record("user.create")).await.unwrap();
    let removals: Vec<_> = [1, 2]
        .map(|number| {
            let (store, change) = (store.clone(), without.clone());
            tokio::spawn(async move {
                store.change_user(&user_id(number), &change, NOW, &record("user.change")).await.unwrap()
            })
        })
        .into_iter()
        .collect();
    let mut outcomes = Vec::new();
    for removal in removals {
        outcomes.push(removal.await.unwrap());
    }
    assert!(
        outcomes.contains(&UserOutcome::Done) && outcomes.contains(&UserOutcome::LastAdmin),
        "{outcomes:?}"
    );
}

pub(crate) async fn roles_grant_and_go_when_nobody_holds_them(store: Store) {
    with_admin(&store).await;
    store.seed_roles(&[role("engineer", &["*:*:*"])]).await.unwrap();
    let seeded = store.roles().await.unwrap();
    assert_eq!(
        seeded,
        [role("admin", &["*:*:*"]), role("engineer", &["hosts:read:*"])],
        "what is there stays"
    );
    let granted = permissions(&["hosts:read:own", "events:read:group:blue", "hosts:read:own"]);
    store.put_role("watcher", &granted, &record("role.put")).await.unwrap();
    store.put_role("watcher", &permissions(&["events:read:*"]), &record("role.put")).await.unwrap();
    let watcher = RoleRow { template: false, ..role("watcher", &["events:read:*"]) };
    assert_eq!(store.roles().await.unwrap().last(), Some(&watcher));
    store.create_user(&user(2, "zhang", &["watcher"]), NOW, &record("user.create")).await.unwrap();
    assert_eq!(store.delete_role("watcher", &record("role.delete")).await.unwrap(), RoleDeletion::InUse);
    store.delete_user(&user_id(2), &record("user.delete")).await.unwrap();
    assert_eq!(store.delete_role("watcher", &record("role.delete")).await.unwrap(), RoleDeletion::Done);
    assert_eq!(store.delete_role("watcher", &record("role.delete")).await.unwrap(), RoleDeletion::Missing);
    assert_eq!(store.delete_role("engineer", &record("role.delete")).await.unwrap(), RoleDeletion::Missing);
    assert_eq!(store.roles().await.unwrap(), seeded, "a template and what it grants stay");
}

pub(crate) async fn sessions_open_rotate_and_end(store: Store) {
    with_admin(&store).await;
    store.open_session(&session("one", 1), &record("auth.login")).await.unwrap();
    let opened = store.session("one").await.unwrap().unwrap();
    assert_eq!((opened.username.as_str(), opened.mode, opened.enabled), ("li", LoginMode::Cookie, true));
    assert_eq!((opened.csrf_sha256.as_deref(), opened.ended_at), (Some("csrf one"), None));
    assert_eq!(store.session_of_refresh("refresh one of one").await.unwrap(), Some(opened));
    assert_eq!(store.session_of_refresh("another").await.unwrap(), None);
    assert!(store.was_seen_from("li", "192.0.2.1", NOW.plus_ms(-1)).await.unwrap());
    assert!(!store.was_seen_from("li", "192.0.2.1", NOW).await.unwrap());
    assert!(!store.was_seen_from("li", "192.0.2.2", NOW.plus_ms(-1)).await.unwrap());

    let rotate = async |id: &str, used: &str, new: &str| {
        let (done, reused) = (record("auth.refresh"), record("auth.refresh_reuse"));
        store.rotate(id, &rotation(used, new), &done, &reused).await.unwrap()
    };
    assert_eq!(rotate("one", "refresh one of one", "refresh two").await, RotationOutcome::Done);
    let rotated = store.session("one").await.unwrap().unwrap();
    assert_eq!(
        (rotated.csrf_sha256.as_deref(), rotated.expires_at),
        (Some("csrf two"), NOW.plus_ms(13 * HOUR))
    );
    assert_eq!(rotate("one", "refresh one of one", "refresh three").await, RotationOutcome::Reused);
    assert!(store.session("one").await.unwrap().unwrap().ended_at.is_some(), "the whole family ended");
    assert_eq!(rotate("one", "refresh two", "refresh three").await, RotationOutcome::Refused);

    store.open_session(&session("two", 1), &record("auth.login")).await.unwrap();
    let living = async |now| store.sessions(Some(&user_id(1)), now, 9).await.unwrap().len();
    assert_eq!((living(NOW).await, store.sessions(None, NOW, 9).await.unwrap().len()), (1, 1));
    assert_eq!(store.sessions(Some(&user_id(2)), NOW, 9).await.unwrap().len(), 0);
    assert_eq!(living(NOW.plus_ms(12 * HOUR)).await, 0, "it expired");
    assert!(store.end_session("two", "logout", NOW, &record("auth.logout")).await.unwrap());
    assert!(!store.end_session("two", "logout", NOW, &record("auth.logout")).await.unwrap());
    assert_eq!(living(NOW).await, 0);
    assert_eq!(store.forget_sessions(NOW).await.unwrap(), 0);
    assert_eq!(store.forget_sessions(NOW.plus_ms(1)).await.unwrap(), 1);
    assert_eq!(store.session("two").await.unwrap(), None);
    assert_eq!(store.session_of_refresh("refresh one of two").await.unwrap(), None);
}

pub(crate) async fn of_many_uses_of_a_refresh_token_one_is_done(store: Store) {
    with_admin(&store).await;
    store.open_session(&session("one", 1), &record("auth.login")).await.unwrap();
    let uses: Vec<_> = (0..10)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let rotation = rotation("refresh one of one", &format!("refresh {number}"));
                let (done, reused) = (record("auth.refresh"), record("auth.refresh_reuse"));
                store.rotate("one", &rotation, &done, &reused).await.unwrap()
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for one in uses {
        outcomes.push(one.await.unwrap());
    }
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    assert!(count(RotationOutcome::Done) <= 1 && count(RotationOutcome::Reused) == 1, "{outcomes:?}");
    assert!(store.session("one").await.unwrap().unwrap().ended_at.is_some());
}

pub(crate) async fn hostile_texts_are_texts(store: Store) {
    with_admin(&store).await;
    for text in ["'; DROP TABLE users; --", "%", "_", "\\", "\u{202e}abc", "\u{1f600}", "a\nb", "$1", "?"] {
        assert_eq!(store.user_by_name(text).await.unwrap(), None, "{text:?}");
        let actor = AuditFilter { actor: Some(text.to_owned()), ..AuditFilter::default() };
        assert_eq!(records(&store, &actor).await, 0, "{text:?}");
        store
            .audit_append(&aim_coordinator::store::audit::NewAuditRecord {
                actor: text.to_owned(),
                ..record("user.login")
            })
            .await
            .unwrap();
        assert_eq!(records(&store, &actor).await, 1, "{text:?}");
    }
    assert_eq!(store.user_count().await.unwrap(), 1);
    let chain = store.audit_chain(0, 100).await.unwrap();
    assert!(chain.iter().all(|row| row.hash == row.expected_hash()));
}
