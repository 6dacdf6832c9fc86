//! Permissions: `resource:verb:scope`, three segments, matched segment by segment; deny by default.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a permission.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("permission {text:?} is not usable: {reason}; expected resource:verb:scope such as hosts:read:*")]
pub struct PermissionError {
    text: String,
    reason: &'static str,
}

/// One segment of a granted permission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// `*`: the whole segment, whatever it is.
    Any,
    /// Exactly this word.
    Exactly(String),
}

impl Segment {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" { Ok(Self::Any) } else { word(text).map(Self::Exactly) }
    }

    fn covers(&self, asked: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(word) => word == asked,
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(word) => f.write_str(word),
        }
    }
}

/// A word of a permission: `[a-z][a-z0-9.-]*`, 64 bytes at most.
fn word(text: &str) -> Result<String, &'static str> {
    let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest_ok =
        text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    if first_ok && rest_ok && text.len() <= 64 {
        Ok(text.to_owned())
    } else {
        Err("a segment is neither * nor 1 to 64 of a-z 0-9 . - that begin with a letter")
    }
}

/// How far a grant reaches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `*`: every object.
    All,
    /// `own`: objects whose stored owner is the caller.
    Own,
    /// `group:<name>`: objects in this group. Written as the one third segment although it holds a colon.
    Group(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Own => f.write_str("own"),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

/// A granted permission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    resource: Segment,
    verb: Segment,
    scope: Scope,
}

/// What an object is to a caller: whether the caller owns it, and the groups it is in.
#[derive(Debug, Clone, Copy, Default)]
pub struct ObjectScope<'a> {
    /// The stored owner is the caller.
    pub owned: bool,
    /// The groups the object is in.
    pub groups: &'a [String],
}

impl Permission {
    /// How far the grant reaches.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The grant names this resource and verb, whatever its scope.
    pub fn covers_verb(&self, resource: &str, verb: &str) -> bool {
        self.resource.covers(resource) && self.verb.covers(verb)
    }

    /// The grant allows the verb on this object.
    pub fn allows(&self, resource: &str, verb: &str, object: ObjectScope<'_>) -> bool {
        self.covers_verb(resource, verb)
            && match &self.scope {
                Scope::All => true,
                Scope::Own => object.owned,
                Scope::Group(name) => object.groups.contains(name),
            }
    }

    /// Everything that `other` allows, `self` allows too: whoever holds `self` may hand out `other`.
    pub fn includes(&self, other: &Self) -> bool {
        let segment = |mine: &Segment, theirs: &Segment| *mine == Segment::Any || mine == theirs;
        segment(&self.resource, &other.resource)
            && segment(&self.verb, &other.verb)
            && (self.scope == Scope::All || self.scope == other.scope)
    }
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| PermissionError { text: text.chars().take(128).collect(), reason };
        let mut parts = text.splitn(3, ':');
        let (Some(resource), Some(verb), Some(scope)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("it has fewer than three segments"));
        };
        let scope = match scope {
            "*" => Scope::All,
            "own" => Scope::Own,
            other => match other.strip_prefix("group:") {
                Some(name) => Scope::Group(word(name).map_err(refuse)?),
                None => return Err(refuse("the scope is neither *, own nor group:<name>")),
            },
        };
        Ok(Self {
            resource: Segment::parse(resource).map_err(refuse)?,
            verb: Segment::parse(verb).map_err(refuse)?,
            scope,
        })
    }
}

impl TryFrom<String> for Permission {
    type Error = PermissionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.to_string()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.resource, self.verb, self.scope)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Permission {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .examples([serde_json::json!("hosts:read:*")])
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Permission {}
