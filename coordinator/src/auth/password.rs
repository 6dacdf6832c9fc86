//! Passwords: bcrypt, off the async executor, a few at once, and the same work for users that do not exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::api::problem::ApiError;
use crate::entropy::random_bytes;

/// bcrypt's cost (AUT-08).
const COST: u32 = 12;
/// bcrypt reads no more; longer ones are refused, never cut.
const MAX_BYTES: usize = 72;
/// Fewer are refused.
const MIN_BYTES: usize = 12;
/// Longest wait for a place; after that the caller may come back.
const WAIT: Duration = Duration::from_secs(5);
/// A hash of cost 12 that no password is known for: compared where there is no user (AUT-07).
const DUMMY: &str = "$2b$12$IF4CBP4vIU9kvITvkoy9P.C5TlX/evAiCgyTHGl0qddtPFY0GUs5m";

/// Hashes and compares passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    places: Arc<Semaphore>,
    computed: Arc<AtomicU64>,
}

impl Default for Passwords {
    /// As many at once as there are cores, less one for everything else.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { places: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))), computed: Arc::default() }
    }
}

impl Passwords {
    /// The password is this user's. One hash is computed whether there is a user or not, and whatever was sent.
    pub async fn matches(&self, password: &str, hash: Option<&str>) -> Result<bool, ApiError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(DUMMY).to_owned();
        let fits = password.len() <= MAX_BYTES;
        let password = zeroize::Zeroizing::new(if fits { password.to_owned() } else { String::new() });
        let compare = move || bcrypt::verify(password.as_bytes(), &hash);
        let equal = self.compute(compare).await?.unwrap_or_else(|error| {
            tracing::error!(%error, "a stored password hash is damaged; reset the user's password");
            false
        });
        Ok(equal && known && fits)
    }

    /// The hash of a new password; refused where it is too short or too long.
    pub async fn hash(&self, field: &str, password: &str) -> Result<String, ApiError> {
        if !(MIN_BYTES..=MAX_BYTES).contains(&password.len()) {
            return Err(ApiError::invalid(field, "a password has 12 to 72 bytes"));
        }
        if password.contains('\0') {
            return Err(ApiError::invalid(field, "a password has no NUL character"));
        }
        let password = zeroize::Zeroizing::new(password.to_owned());
        let hashed = self.compute(move || bcrypt::hash(password.as_bytes(), COST)).await?;
        hashed.map_err(ApiError::internal)
    }

    /// How many hashes were computed; what the test of AUT-07 compares.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let waited = tokio::time::timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = waited else { return Err(ApiError::TooMany { retry_after_seconds: 5 }) };
        self.computed.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || {
            let _held = place;
            work()
        })
        .await
        .map_err(ApiError::internal)
    }
}

/// A password of 120 random bits, to be shown once.
pub fn generate() -> Result<zeroize::Zeroizing<String>, crate::entropy::EntropyError> {
    use base64::Engine;
    let bytes = random_bytes::<15>()?;
    Ok(zeroize::Zeroizing::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn aut_08_bcrypt_cost_12_and_nothing_is_cut() {
        let passwords = Passwords::default();
        let longest = "a".repeat(72);
        let hash = passwords.hash("password", &longest).await.unwrap();
        assert!(hash.starts_with("$2b$12$"), "{hash}");
        assert!(passwords.matches(&longest, Some(&hash)).await.unwrap());
        // bcrypt would read the same 72 bytes of it.
        assert!(!passwords.matches(&format!("{longest}b"), Some(&hash)).await.unwrap());
        assert!(passwords.hash("password", &format!("{longest}b")).await.is_err());
        assert!(passwords.hash("password", "short").await.is_err());
        assert!(passwords.hash("password", "twelve bytes\0 and more").await.is_err());
    }

    /// On one thread, so that a hash on it would hold up everything else.
    #[tokio::test(flavor = "current_thread")]
    async fn aut_08_hashing_does_not_hold_up_the_async_executor() {
        let passwords = Passwords::default();
        let mut ticks = 0_u32;
        let mut pauses = tokio::time::interval(Duration::from_millis(5));
        let hashing = async {
            for _ in 0..3 {
                assert!(!passwords.matches("whatever it is", None).await.unwrap());
            }
        };
        tokio::pin!(hashing);
        loop {
            tokio::select! {
                () = hashing.as_mut() => break,
                _ = pauses.tick() => ticks += 1,
            }
        }
        // Three hashes take half a second at least; between them alone there would be three ticks.
        assert!(ticks > 10, "{ticks} ticks while three hashes were computed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn aut_08_as_many_hashes_at_once_as_there_are_cores_to_spare() {
        let passwords = Passwords::default();
        let places = passwords.places.available_permits();
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(places, (cores - 1).max(1), "one core is left for everything else");
        let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let work = (0..64).map(|_| {
            let (passwords, running, most) = (passwords.clone(), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let one = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let hashed = bcrypt::hash("whatever it is", 4);
                    running.fetch_sub(1, Ordering::SeqCst);
                    hashed.is_ok()
                };
                assert!(passwords.compute(one).await.unwrap());
            })
        });
        for done in work.collect::<Vec<_>>() {
            done.await.unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= places as u64, "{most:?} at once, {places} places");
    }

    #[tokio::test]
    async fn aut_08_a_damaged_hash_refuses_and_does_not_panic() {
        let passwords = Passwords::default();
        for damaged in ["", "x", "$2b$12$", "$2b$99$abc", "plain"] {
            assert!(!passwords.matches("whatever it is", Some(damaged)).await.unwrap(), "{damaged}");
        }
    }

    #[tokio::test]
    async fn aut_07_the_dummy_costs_as_much_as_a_real_hash() {
        // A malformed dummy would fail at once, and tell who exists.
        assert!(DUMMY.starts_with("$2b$12$"));
        assert!(bcrypt::verify("whatever it is", DUMMY).is_ok());
        assert!(!Passwords::default().matches("whatever it is", None).await.unwrap());
    }
}
