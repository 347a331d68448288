//! Replaces the device functions if the program was built without the feature `mic`.

use std::convert::Infallible;
use std::time::Duration;

use super::config::DeviceConfig;
use super::error::{DeviceDirection, DeviceError};
use crate::audio::convert::Packetizer;
use crate::client::{AudioStreamConfig, PacketEvent, PacketObserver, PayloadSource, PlaybackResults, SourcePoll};
use crate::io::stop::StopToken;
use crate::report::lists::DeviceList;

/// Placeholder for every type of a device. It has no values, because this build has no audio devices.
pub(crate) struct NoDevice {
    pub name: String,
    pub config: DeviceConfig,
    pub buffer_frames: u32,
    never: Infallible,
}

pub(crate) type Microphone = NoDevice;
pub(crate) type Speaker = NoDevice;
pub(crate) type SpeakerObserver = NoDevice;

const NOT_BUILT_IN: &str = "this jamjam-dev was built without audio devices. Rebuild it with `cargo install --path . --locked`. On \
                            Debian, first run `apt-get install libasound2-dev pkg-config`. The Debian package and the programs for \
                            Windows and macOS also have them";

pub(crate) fn list_devices() -> Result<DeviceList, DeviceError> {
    Err(DeviceError(NOT_BUILT_IN.to_owned()))
}

pub(crate) fn select_device(_: DeviceDirection, _: &str, _: u32) -> Result<NoDevice, DeviceError> {
    Err(DeviceError(NOT_BUILT_IN.to_owned()))
}

impl NoDevice {
    pub(crate) fn open_microphone(self, _: Packetizer, _: u32) -> Result<Microphone, DeviceError> {
        match self.never {}
    }

    pub(crate) fn open_speaker(
        self,
        _: AudioStreamConfig,
        _: Option<Duration>,
        _: u32,
    ) -> Result<(SpeakerObserver, Speaker), DeviceError> {
        match self.never {}
    }

    pub(crate) fn finish(self, _: &StopToken) -> PlaybackResults {
        match self.never {}
    }
}

impl PayloadSource for NoDevice {
    fn poll_next(&mut self, _: &mut Vec<u8>) -> SourcePoll {
        match self.never {}
    }
}

impl PacketObserver for NoDevice {
    fn on_packet(&mut self, _: PacketEvent<'_>) {
        match self.never {}
    }
}
