//! TLS, with one provider of cryptography for all of it.

pub mod client;
pub mod disbelief;
pub mod fingerprint;
pub mod identity;
pub mod kept_key;
pub mod self_made;
pub mod server;
mod shown;
pub mod unvouched;
pub mod witness;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// What does the arithmetic.
pub(in crate::io) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
