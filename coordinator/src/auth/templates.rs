//! The five role templates of the specification, with the additions that architecture.md tells of.

use aim_common::permission::{Permission, PermissionError};

use crate::store::roles::RoleRow;

const TEMPLATES: [(&str, &[&str]); 5] = [
    ("admin", &["*:*:*"]),
    (
        "sre",
        &[
            "saltstack:*:*",
            "ansible:*:*",
            "kubernetes:*:*",
            "hosts:read:*",
            "hosts:update:*",
            "slurm:*:*",
            "keyvault:create:*",
            "keyvault:read:*",
            "certificates:*:*",
            "actions.read:run:*",
            "actions.routine:run:*",
            "events:read:*",
            "packages:*:*",
        ],
    ),
    (
        "data-developer",
        &["projects:create:*", "jupyterhub:*:*", "hosts:read:*", "slurm:read:*", "slurm:*:own"],
    ),
    (
        "model-developer",
        &["jupyterhub:*:own", "projects:read:*", "hosts:read:*", "slurm:read:*", "slurm:*:own"],
    ),
    ("engineer", &["kubernetes:*:*", "projects:*:own", "hosts:read:*", "slurm:read:*"]),
];

/// The templates as rows to be seeded.
pub fn templates() -> Result<Vec<RoleRow>, PermissionError> {
    TEMPLATES
        .iter()
        .map(|(name, texts)| {
            let permissions =
                texts.iter().map(|text| text.parse()).collect::<Result<Vec<Permission>, _>>()?;
            Ok(RoleRow { name: (*name).to_owned(), template: true, permissions })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(role: &str, resource: &str, verb: &str) -> bool {
        let roles = templates().unwrap();
        let role = roles.iter().find(|known| known.name == role).unwrap();
        role.permissions.iter().any(|granted| granted.covers_verb(resource, verb))
    }

    #[test]
    fn rba_05_only_admin_and_sre_push_to_nodes_and_reading_hosts_gives_no_action() {
        for role in ["data-developer", "model-developer", "engineer"] {
            assert!(may(role, "hosts", "read"), "{role}");
            for class in ["actions.read", "actions.routine", "actions.exec"] {
                assert!(!may(role, class, "run"), "{role} runs {class}");
            }
            for (resource, verb) in
                [("users", "read"), ("keyvault", "create"), ("hosts", "update"), ("audit", "read")]
            {
                assert!(!may(role, resource, verb), "{role} {resource}:{verb}");
            }
        }
        assert!(may("sre", "actions.routine", "run") && !may("sre", "actions.exec", "run"));
        assert!(!may("sre", "users", "create") && !may("sre", "hosts", "delete"));
        assert!(may("admin", "actions.exec", "run"));
    }

    #[test]
    fn rba_05_no_grant_on_hosts_includes_an_action_and_no_class_includes_another() {
        let grant = |text: &str| -> Permission { text.parse().unwrap() };
        let classes = ["actions.read", "actions.routine", "actions.exec"];
        for class in classes {
            for hosts in ["hosts:read:*", "hosts:update:*", "hosts:*:*", "hosts:run:*"] {
                assert!(!grant(hosts).covers_verb(class, "run"), "{hosts} runs {class}");
            }
            for other in classes.into_iter().filter(|other| *other != class) {
                assert!(!grant(&format!("{class}:run:*")).covers_verb(other, "run"), "{class} runs {other}");
            }
            assert!(!grant(&format!("{class}:read:*")).covers_verb(class, "run"));
        }
    }
}
