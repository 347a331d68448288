//! What `send` notices of its sound before anything is done to it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::audio::playback::{Listener, Shape};
use crate::heard::{Intake, Taken};

/// What is listening, wherever the sound is read.
#[derive(Clone)]
pub struct Listening(Arc<Mutex<Intake>>);

impl Listening {
    /// To an input of this shape.
    pub fn to(shape: Shape) -> Self {
        Self(Arc::new(Mutex::new(Intake::new(shape.input_rate, shape.input_channels))))
    }

    /// The ear that is given to whoever reads.
    pub fn ear(&self) -> Listener {
        let Self(intake) = self.clone();
        Box::new(move |samples| intake.lock().unwrap_or_else(PoisonError::into_inner).hear(samples))
    }

    /// What was taken in so far.
    pub fn taken(&self) -> Taken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).taken()
    }
}
