//! A bar on standard error while a run goes on, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::flow::Live;

/// The bar. Dropping it wipes it.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar of `total` packets, or a spinner where nobody knows. Hidden unless `shown` and standard error is a terminal.
    pub fn new(total: Option<u64>, shown: bool) -> Self {
        let target = if shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{elapsed:>4} [{bar:30}] {pos}/{len} sent, {msg}",
            None => "{elapsed:>4} {spinner} {pos} sent, {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message("waiting for the first answer");
        Self { bar }
    }

    /// Shows how far the run has come.
    pub fn show(&self, live: &Live) {
        self.bar.set_position(live.sent.get());
        if live.started().is_some() {
            self.bar.set_message(format!("{} returned", live.returned.get()));
        }
    }

    /// How often to call [`Progress::show`].
    pub const EVERY: Duration = Duration::from_millis(50);
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
