//! Broadcast rooms: who is in one is known from a token, and what anybody says goes to all others.

pub mod token;
