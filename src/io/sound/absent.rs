//! In place of sound devices, where the program was built without them.

use std::convert::Infallible;
use std::time::Duration;

use super::{DeviceError, Direction};
use crate::audio::device_list::Devices;
use crate::audio::device_offer::Choice;
use crate::audio::framer::Framer;
use crate::flow::{Fact, Form, Observer, PlaybackRun, Pull, Source};
use crate::io::stop::Stop;

/// A device, of which there are none.
pub struct Found(Infallible);

/// Sound from it.
pub struct Live(Infallible);

/// What goes to it.
pub struct Returning(Infallible);

/// Sound on it.
pub struct Speaker(Infallible);

/// Says that there are none.
pub fn list() -> Result<Devices, DeviceError> {
    Err(DeviceError::Absent)
}

/// Says that there are none.
pub fn find(_: Direction, _: Option<&str>, _: Option<u16>, _: u32) -> Result<Found, DeviceError> {
    Err(DeviceError::Absent)
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
    pub fn listen(self, _: Framer, _: u32) -> Result<Live, DeviceError> {
        match self.0 {}
    }

    /// Opens it.
    pub fn play(self, _: Form, _: Option<Duration>, _: u32) -> Result<(Returning, Speaker), DeviceError> {
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

impl Observer for Returning {
    fn on_fact(&mut self, _: Fact<'_>) {
        match self.0 {}
    }
}

impl Speaker {
    /// How many frames at a time it was asked for, and how many it says.
    pub fn buffer(&self) -> (u32, Option<u32>) {
        match self.0 {}
    }

    /// Waits until all is played.
    pub fn finish(self, _: &Stop) -> PlaybackRun {
        match self.0 {}
    }
}
