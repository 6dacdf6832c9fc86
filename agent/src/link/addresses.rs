//! Names to socket addresses, anew at each attempt: a coordinator may have moved (FLT-21).

use std::net::SocketAddr;
use std::time::Duration;

/// A resolver that does not answer must not hold up the next address.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// Most addresses tried for one name.
const MAX_ADDRESSES: usize = 8;

/// The addresses of `host:port`, IPv6 and IPv4 as the resolver orders them.
pub async fn resolve(address: &str) -> std::io::Result<Vec<SocketAddr>> {
    let looked_up = tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(address)).await;
    let found = looked_up.map_err(|_| {
        std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("the name in {address} was not resolved in 5 s"),
        )
    })??;
    let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, format!("{address} has no address")));
    }
    Ok(addresses)
}
