//! Who this node is: its key, its certificate, and how it gets and renews them.
//!
//! Enters: a join string, the KeyVault's answers, the state directory. Leaves: an [`Identity`] that was checked against
//! its own key, id and roots. Never: sends a private key, sends a token to a coordinator whose root is not the pinned one,
//! overwrites a pair that works with one that was not proven.

mod certificate;
mod enrol;
mod join;
mod key;
mod renewal;
mod store;
mod vault;

pub(crate) use certificate::root_store;
pub use certificate::{Identity, IdentityParts, UnfitIdentity};
pub use enrol::{EnrolError, Enrolment, RequestOptions, enrol, late_renewal, request_approval};
pub use join::{JoinSource, JoinSourceError};
pub use key::{Csr, KeyError, NodeKey};
pub use renewal::{ClockView, renewal_time, view_clock};
pub use store::{IdentityStore, Pending, PendingPurpose, StoreError};
pub use vault::{Trust, VaultClient, VaultError};
