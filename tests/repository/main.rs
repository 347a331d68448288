//! Checks of the repository's files: docs, packaging, module layers and the GitHub action.

mod architecture_paths;
#[cfg(all(target_os = "linux", feature = "mic"))]
mod completions;
mod counter_docs;
mod dependency_docs;
mod github_action;
mod layers;
mod licenses;
mod log_targets;
mod man_and_completions;
mod option_tables;
mod packaging;
mod plain_words;
mod protocol_docs;
mod sentence_length;
mod troubleshooting;
mod wireshark;
