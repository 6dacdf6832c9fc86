//! The agent's only source of randomness: the kernel's.

/// The kernel gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot read random bytes from the kernel: {0}")]
pub struct EntropyError(getrandom::Error);

/// `N` random bytes; waits for the kernel's pool at early boot, and never falls back to anything weaker.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    getrandom::fill(&mut bytes).map_err(EntropyError)?;
    Ok(bytes)
}

/// A random number from 0 to 1, for jitter alone: without randomness it is 1, and the jitter is lost and nothing else.
#[expect(clippy::cast_precision_loss, reason = "jitter needs no 64 bits")]
pub fn random_share() -> f64 {
    random_bytes().map_or(1.0, |bytes| u64::from_le_bytes(bytes) as f64 / u64::MAX as f64)
}
