//! The pages of the signaling server in a browser, and the programs with libraries of Node. Only `.ci/full` runs these tests.

#![cfg(unix)]

mod chromium;
mod console;
mod examples;
mod node;
mod pages;
