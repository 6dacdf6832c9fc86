//! Roles: named sets of permissions.

use serde::{Deserialize, Serialize};

use crate::permission::Permission;

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it grants.
    pub permissions: Vec<Permission>,
    /// One of the five templates, which cannot be deleted.
    pub template: bool,
}

/// `PUT /api/v1/roles/{name}`: creates or replaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutRoleRequest {
    /// What it grants; the caller must hold all of it.
    pub permissions: Vec<Permission>,
}
