//! The authenticated caller of a request.

use std::sync::Arc;

use aim_common::identity::UserId;
use aim_common::permission::{ObjectScope, Permission};

/// A user with a living session, and all that the user may do at this moment.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// The user's name.
    pub username: Arc<str>,
    /// The session.
    pub session_id: Arc<str>,
    /// The roles held.
    pub roles: Arc<[String]>,
    /// All permissions of the roles.
    pub permissions: Arc<[Permission]>,
    /// Address of the request.
    pub source: String,
    /// The request's id.
    pub request_id: String,
}

impl Caller {
    /// The audit trail's word for the caller.
    pub fn actor(&self) -> String {
        format!("user:{}", self.username)
    }

    /// Some grant names this resource and verb, whatever its scope; objects are checked one by one then.
    pub fn may_somewhere(&self, resource: &str, verb: &str) -> bool {
        self.permissions.iter().any(|granted| granted.covers_verb(resource, verb))
    }

    /// Some grant allows the verb on every object.
    pub fn may_everywhere(&self, resource: &str, verb: &str) -> bool {
        self.permissions.iter().any(|granted| granted.allows(resource, verb, ObjectScope::default()))
    }

    /// Some grant allows the verb on this object, given its stored owner and groups.
    pub fn may(&self, resource: &str, verb: &str, owner: Option<&UserId>, groups: &[String]) -> bool {
        let object = ObjectScope { owned: owner == Some(&self.user_id), groups };
        self.permissions.iter().any(|granted| granted.allows(resource, verb, object))
    }

    /// The caller holds everything that the permission grants, and so may hand it out (RBA-04).
    pub fn holds(&self, permission: &Permission) -> bool {
        self.permissions.iter().any(|granted| granted.includes(permission))
    }
}
