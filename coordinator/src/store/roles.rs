//! Roles and what they grant.

use std::collections::BTreeMap;

use aim_common::permission::Permission;

use super::audit::{NewAuditRecord, append_audit};
use super::nodes::parse;
use super::{Store, StoreError, begin_deciding, read, write};

/// A role as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRow {
    /// Its name.
    pub name: String,
    /// One of the templates.
    pub template: bool,
    /// What it grants.
    pub permissions: Vec<Permission>,
}

/// What became of the wish to delete a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleDeletion {
    /// It is gone.
    Done,
    /// There is no such role.
    Missing,
    /// A user holds it.
    InUse,
}

impl Store {
    /// All roles, by name.
    pub async fn roles(&self) -> Result<Vec<RoleRow>, StoreError> {
        let (heads, grants) = read!(self, pool => {
            let heads: Vec<(String, bool)> =
                sqlx::query_as("SELECT name, template FROM roles ORDER BY name").fetch_all(pool).await?;
            let grants: Vec<(String, String)> =
                sqlx::query_as("SELECT role, permission FROM role_permissions ORDER BY role, permission")
                    .fetch_all(pool)
                    .await?;
            Ok::<_, StoreError>((heads, grants))
        })?;
        let mut by_role: BTreeMap<String, Vec<Permission>> = BTreeMap::new();
        for (role, text) in grants {
            let permission = parse("role_permissions", "permission", &role, &text)?;
            by_role.entry(role).or_default().push(permission);
        }
        Ok(heads
            .into_iter()
            .map(|(name, template)| {
                let permissions = by_role.remove(&name).unwrap_or_default();
                RoleRow { name, template, permissions }
            })
            .collect())
    }

    /// Adds roles that are not there yet; what an operator changed stays.
    pub async fn seed_roles(&self, roles: &[RoleRow]) -> Result<(), StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            for role in roles {
                let added = sqlx::query(
                    "INSERT INTO roles (name, template) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
                )
                .bind(&role.name)
                .bind(role.template)
                .execute(&mut *tx)
                .await?;
                if added.rows_affected() == 0 {
                    continue;
                }
                for permission in &role.permissions {
                    sqlx::query("INSERT INTO role_permissions (role, permission) VALUES ($1, $2)")
                        .bind(&role.name)
                        .bind(permission.to_string())
                        .execute(&mut *tx)
                        .await?;
                }
            }
            tx.commit().await?;
            Ok(())
        })
    }

    /// Creates the role, or replaces what it grants.
    pub async fn put_role(
        &self,
        name: &str,
        permissions: &[Permission],
        audit: &NewAuditRecord,
    ) -> Result<(), StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            sqlx::query("INSERT INTO roles (name, template) VALUES ($1, FALSE) ON CONFLICT (name) DO NOTHING")
                .bind(name)
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM role_permissions WHERE role = $1").bind(name).execute(&mut *tx).await?;
            for permission in permissions {
                sqlx::query(
                    "INSERT INTO role_permissions (role, permission) VALUES ($1, $2) \
                     ON CONFLICT (role, permission) DO NOTHING",
                )
                .bind(name)
                .bind(permission.to_string())
                .execute(&mut *tx)
                .await?;
            }
            append_audit!(self, &mut tx, audit)?;
            tx.commit().await?;
            Ok(())
        })
    }

    /// Deletes a role that nobody holds.
    pub async fn delete_role(&self, name: &str, audit: &NewAuditRecord) -> Result<RoleDeletion, StoreError> {
        write!(self, pool => {
            let mut tx = begin_deciding!(self, pool);
            let holders: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM user_roles WHERE role = $1")
                .bind(name)
                .fetch_one(&mut *tx)
                .await?;
            if holders > 0 {
                return Ok(RoleDeletion::InUse);
            }
            sqlx::query("DELETE FROM role_permissions WHERE role = $1").bind(name).execute(&mut *tx).await?;
            let deleted = sqlx::query("DELETE FROM roles WHERE name = $1 AND template = FALSE")
                .bind(name)
                .execute(&mut *tx)
                .await?;
            if deleted.rows_affected() == 0 {
                return Ok(RoleDeletion::Missing);
            }
            append_audit!(self, &mut tx, audit)?;
            tx.commit().await?;
            Ok(RoleDeletion::Done)
        })
    }
}
