//! `jamjam-dev send` and `jamjam-dev probe` as processes on real sockets.

mod audio_source;
mod baseline;
mod broken_wav;
mod bursts_and_reordering;
mod certificates;
mod command_line;
mod gaps;
mod html_page;
mod limits_and_signals;
mod link;
mod live_view;
mod loss_direction;
mod moqt;
mod packet_counts;
mod packets;
#[cfg(target_os = "linux")]
mod pauses;
mod real_speech;
mod record;
mod record_both;
mod report_files;
mod rooms;
mod rooms_tls;
mod run_record;
mod source_quality;
mod stdout_and_stderr;
#[cfg(target_os = "linux")]
mod this_machine;
mod troubleshooting;
mod usage_errors;
mod websocket;
