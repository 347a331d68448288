//! Statistics, limits and report formats.

mod bursts_and_reordering;
mod clock_jumps;
mod comparison;
mod comparison_study;
mod delay_variation;
mod findings;
mod histogram;
mod history;
mod html;
mod html_page;
mod jitter;
mod jitter_buffer_table;
mod json;
mod junit;
mod limits;
mod loss_direction;
mod machine;
mod markdown;
mod run_record;
mod runs;
mod text;
#[cfg(target_os = "linux")]
mod this_machine;
mod time_series;
mod units;
mod warnings;
