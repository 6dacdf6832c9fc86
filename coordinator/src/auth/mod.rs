//! Who calls, and what they may do.
//!
//! Enters: credentials of a request. Leaves: a [`Caller`] with the permissions of this moment, or a refusal. Never:
//! rights from anything the request itself says (path, body, headers other than the credential).

mod caller;

pub use caller::Caller;
