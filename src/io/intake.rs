//! What is noticed of a source's sound before anything is done to it, on whichever thread that is read.

use std::sync::{Arc, Mutex, PoisonError};

use crate::audio::framer::Listener;
use crate::heard::{Intake, Taken};

/// An [`Intake`] that one thread tells and another asks. They hardly ever meet.
#[derive(Clone)]
pub struct SharedIntake(Arc<Mutex<Intake>>);

impl SharedIntake {
    /// For a source with this rate in Hz and this number of interleaved channels. `replaces_non_finite`: NaN and infinite samples are
    /// sent as 0.
    pub fn of((rate, channels): (u32, u16), replaces_non_finite: bool) -> Self {
        Self(Arc::new(Mutex::new(Intake::new(rate, channels).replacing_non_finite(replaces_non_finite))))
    }

    /// Whoever reads the source tells it what it reads.
    pub fn listener(&self) -> Listener {
        let Self(intake) = self.clone();
        Box::new(move |samples| intake.lock().unwrap_or_else(PoisonError::into_inner).hear(samples))
    }

    /// What was taken in so far.
    pub fn taken(&self) -> Taken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).taken()
    }
}
