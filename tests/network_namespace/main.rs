//! Tests that run themselves again in a network namespace.

mod admission;
mod echo;
