//! Limits, findings and output formats.

mod comparison;
mod comparison_study;
mod findings;
mod html;
mod html_page;
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
mod time_series;
mod warnings;
