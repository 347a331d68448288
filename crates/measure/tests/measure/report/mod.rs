//! Limits, findings and output formats.

mod clients;
mod findings;
mod formats;
mod html;
mod jitter_buffer_table;
mod json;
mod limits;
mod media;
mod ramp;
mod relay;
mod run_record;
mod runs;
mod targets;
mod time_series;
mod warnings;
