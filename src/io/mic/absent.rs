//! In place of sound devices, where the program was built without them.

use std::convert::Infallible;

use super::MicError;
use crate::audio::device_list::Devices;
use crate::audio::device_offer::Choice;
use crate::audio::framer::Framer;
use crate::flow::{Pull, Source};

/// A device, of which there are none.
pub struct Found(Infallible);

/// Sound from it.
pub struct Live(Infallible);

/// Says that there are none.
pub fn list() -> Result<Devices, MicError> {
    Err(MicError::Absent)
}

/// Says that there are none.
pub fn find(_: Option<&str>, _: Option<u16>) -> Result<Found, MicError> {
    Err(MicError::Absent)
}

impl Found {
    /// Its name.
    pub fn name(&self) -> &str {
        match self.0 {}
    }

    /// What it is asked for.
    pub fn choice(&self) -> &Choice {
        match self.0 {}
    }

    /// Opens it.
    pub fn open(self, _: Framer, _: u32) -> Result<Live, MicError> {
        match self.0 {}
    }
}

impl Live {
    /// How many frames at a time it was asked for, and how many it says.
    pub fn buffer(&self) -> (u32, Option<u32>) {
        match self.0 {}
    }
}

impl Source for Live {
    fn next(&mut self, _: &mut Vec<u8>) -> Pull {
        match self.0 {}
    }
}
