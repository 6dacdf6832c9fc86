//! The coordinator's only source of randomness: the kernel's.

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
