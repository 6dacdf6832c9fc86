//! Proof of possession of a key: what is signed when a lost answer or an expired certificate is recovered.

/// Bytes of a server challenge.
pub const CHALLENGE_LEN: usize = 32;

/// What a proof is for; a signature of one purpose is useless for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofPurpose {
    /// Fetch the certificate whose answer was lost.
    Recover,
    /// Renew a certificate that expired while the node was off.
    Renew,
}

/// The bytes that the node's key signs (ECDSA or Ed25519 as the key is): a domain label, then the challenge and,
/// for a renewal, the DER of the new CSR.
pub fn proof_input(purpose: ProofPurpose, challenge: &[u8; CHALLENGE_LEN], csr_der: &[u8]) -> Vec<u8> {
    let label: &[u8] = match purpose {
        ProofPurpose::Recover => b"aim proof of possession v1: recover\0",
        ProofPurpose::Renew => b"aim proof of possession v1: renew\0",
    };
    let mut input = label.to_vec();
    input.extend_from_slice(challenge);
    input.extend_from_slice(csr_der);
    input
}
