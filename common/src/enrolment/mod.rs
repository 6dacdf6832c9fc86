//! Enrolment tokens and the join string: the formats that coordinator, agent and installers share.

mod challenge;
mod join;
mod token;

pub use challenge::{CHALLENGE_LEN, ProofPurpose, proof_input};
pub use join::{JoinError, JoinString};
pub use token::{
    NONCE_LEN, Nonce, Secret, TokenClaims, TokenFormatError, TokenId, TokenKey, TokenPurpose, TokenSignature,
};
