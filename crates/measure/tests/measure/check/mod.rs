//! The check of clients finds what is wrong with each client, and nothing else.

mod documents;
mod drift;
mod networks;
mod senders;
mod signaling;
mod simulated_client;
mod simulation;
mod sources;
mod wrong_client;
mod wrong_clients;
