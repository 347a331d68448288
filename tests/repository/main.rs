//! Checks that the repository's other files match the program: docs, packaging, the GitHub action and the Wireshark dissector.

#[cfg(all(target_os = "linux", feature = "mic"))]
mod completions;
mod dependencies;
mod documentation;
mod log_targets;
mod man_page;
mod option_tables;
mod packaging;
mod release;
mod schema;
mod wireshark;
