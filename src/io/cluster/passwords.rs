//! Passwords of rooms, which other processes and Redis have only as Argon2id hashes (RFC 9106). A hash takes 19 MiB and tens of
//! milliseconds, so few are computed at the same time, and none under the hub's lock.

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Argon2, Params};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Hashes that a process computes at the same time.
pub(super) const MAX_CONCURRENT: usize = 2;

/// The hash of a new password, in PHC string format.
pub(super) async fn hash(permits: &Semaphore, password: String) -> String {
    let hash =
        move || Argon2::default().hash_password(password.as_bytes()).expect("the parameters are valid").to_string();
    compute(permits, hash).await
}

/// Whether `password` is the one of the hash.
pub(super) async fn verify(permits: &Semaphore, password: Option<String>, hash: String) -> bool {
    let Some(password) = password else { return false };
    let verify = move || {
        let Ok(hash) = PasswordHash::new(&hash) else { return false };
        // Whoever writes to Redis must not choose how much memory and time this process spends.
        let is_affordable = Params::try_from(&hash)
            .is_ok_and(|params| params.m_cost() <= Params::DEFAULT_M_COST && params.t_cost() <= Params::DEFAULT_T_COST);
        is_affordable && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
    };
    compute(permits, verify).await
}

async fn compute<T: Send + 'static>(permits: &Semaphore, compute: impl FnOnce() -> T + Send + 'static) -> T {
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    spawn_blocking(compute).await.expect("a hash is computed without panicking")
}
