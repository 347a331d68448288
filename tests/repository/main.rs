//! Checks that the repository's other files match the program: docs, packaging, the GitHub action and the Wireshark dissector.

mod architecture;
mod dependency_docs;
mod documented_names;
mod generated_files;
mod github_action;
mod licenses;
mod log_targets;
mod option_tables;
mod packaging;
mod repository_files;
mod wireshark;
