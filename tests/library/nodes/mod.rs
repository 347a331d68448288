//! The echo server and the clients as state machines, in virtual time.

mod client_dead_port;
mod client_link;
mod client_link_life;
mod client_loss_report;
mod client_pauses;
mod client_wait_for;
mod echo_admission;
mod echo_batches;
mod echo_delay_line;
mod echo_impairment;
mod echo_link;
mod echo_link_life;
mod echo_link_limits;
mod echo_loss_report;
mod echo_mapped_address;
mod echo_memory;
mod echo_pauses;
mod echo_reply_loops;
mod impairment;
mod link_cost;
mod live_figures;
mod prober;
mod sender;
