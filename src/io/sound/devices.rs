//! Which devices there are, and which one is meant.

use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{ErrorKind, SampleFormat, SupportedBufferSize, SupportedStreamConfigRange};

use super::microphone::Live;
use super::quiet::Quiet;
use super::speaker::{OpenError, Returning, Speaker};
use super::{DeviceError, Direction, NO_DEVICES};
use crate::audio::device_format::DeviceFormat;
use crate::audio::device_list::{Devices, Listed, NO_FORMAT, Rates};
use crate::audio::device_offer::{Choice, Offer, choose};
use crate::audio::framer::Framer;
use crate::flow::Form;

/// ALSA's name for what makes silence, as fast as it can, and swallows everything.
const NOTHING: &str = "null";

/// A device that can be opened.
pub struct Found {
    direction: Direction,
    device: cpal::Device,
    name: String,
    choice: Choice,
}

/// The devices there are. To find out each is opened, so one that another program has alone is missing.
pub fn list() -> Result<Devices, DeviceError> {
    let _quiet = Quiet::begin();
    let host = host()?;
    let listed = |direction: Direction| -> Result<Vec<Listed>, DeviceError> {
        Ok(direction.opened(&host)?.into_iter().map(|(_, listed)| listed).collect())
    };
    Ok(Devices { inputs: listed(Direction::Input)?, outputs: listed(Direction::Output)? })
}

/// The device called `name` (its number, id, name, or a part of that which no other has), or the default, and what it is asked
/// for if `channels` at `rate` are wanted of it.
pub fn find(direction: Direction, name: Option<&str>, channels: Option<u16>, rate: u32) -> Result<Found, DeviceError> {
    let quiet = Quiet::begin();
    let host = host()?;
    let device = match name {
        None => direction
            .default(&host)
            .ok_or_else(|| direction.unusable(&format!("the default {direction} device"), NO_DEVICES))?,
        Some(name) => direction.named(&host, name)?,
    };
    let name = shown(&device);
    let offers = direction.configs(&device).map_err(|error| direction.refused(&name, &error, &quiet))?;
    let offers: Vec<Offer> = offers.iter().filter_map(offer).collect();
    let Some(choice) = choose(&offers, channels, rate) else {
        return Err(direction.unusable(&name, NO_FORMAT));
    };
    Ok(Found { direction, device, name, choice })
}

impl Found {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is asked for.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Opens it, to deliver `buffer` frames at a time or what comes nearest. It does not listen yet.
    pub fn listen(self, framer: Framer, buffer: u32) -> Result<Live, DeviceError> {
        let quiet = Quiet::begin();
        let buffer = self.choice.buffer(buffer);
        Live::open(&self.device, &self.name, self.choice, buffer, framer)
            .map_err(|error| self.not_opened(&error, (buffer, "--mic-buffer or --mic-device"), &quiet))
    }

    /// Opens it, to take `buffer` frames at a time or what comes nearest, and to play what comes back in `form`, with so much
    /// time allowed for packets that are late. It begins at once, with silence.
    pub fn play(
        self,
        form: Form,
        allowance: Option<Duration>,
        buffer: u32,
    ) -> Result<(Returning, Speaker), DeviceError> {
        let quiet = Quiet::begin();
        let buffer = self.choice.buffer(buffer);
        match Speaker::open(&self.device, &self.name, self.choice, buffer, form, allowance) {
            Err(OpenError::Form(error)) => Err(self.direction.unusable(&self.name, &error.to_string())),
            Err(OpenError::Device(error)) => {
                Err(self.not_opened(&error, (buffer, "--play-buffer or --play-device"), &quiet))
            }
            Ok(opened) => Ok(opened),
        }
    }

    fn not_opened(&self, error: &cpal::Error, (buffer, way_out): (u32, &str), quiet: &Quiet) -> DeviceError {
        if error.kind() != ErrorKind::UnsupportedConfig {
            return self.direction.refused(&self.name, error, quiet);
        }
        let Choice { format, channels, rate, .. } = self.choice;
        let asked = format!("{}, {channels} channels, {rate} Hz, {buffer} frames at a time", format.name());
        let why = format!("it does not do what it offers ({asked}): {error} Try another {way_out}");
        self.direction.unusable(&self.name, &why)
    }
}

fn host() -> Result<cpal::Host, DeviceError> {
    let id = cpal::ALL_HOSTS.first().ok_or_else(|| DeviceError::System("this system has none".to_owned()))?;
    cpal::host_from_id(*id).map_err(|error| DeviceError::System(error.to_string()))
}

impl Direction {
    fn default(self, host: &cpal::Host) -> Option<cpal::Device> {
        match self {
            Self::Input => host.default_input_device(),
            Self::Output => host.default_output_device(),
        }
    }

    fn configs(self, device: &cpal::Device) -> Result<Vec<SupportedStreamConfigRange>, cpal::Error> {
        match self {
            Self::Input => device.supported_input_configs().map(Iterator::collect),
            Self::Output => device.supported_output_configs().map(Iterator::collect),
        }
    }

    /// All devices that can be opened, the default one first if the system does not list it.
    fn opened(self, host: &cpal::Host) -> Result<Vec<(cpal::Device, Listed)>, DeviceError> {
        let default = self.default(host);
        let default_id = default.as_ref().map(id);
        let devices = host.devices().map_err(|error| DeviceError::System(error.to_string()))?;
        let mut devices: Vec<cpal::Device> = devices.collect();
        if let Some(default) = default
            && devices.iter().all(|device| Some(id(device)) != default_id)
        {
            devices.insert(0, default);
        }
        let listed = devices.into_iter().filter_map(|device| {
            let id = id(&device);
            let offers: Vec<Offer> = self.configs(&device).ok()?.iter().filter_map(offer).collect();
            // ALSA does not open one that goes the other way; others say that it offers nothing.
            if id == NOTHING || (offers.is_empty() && !cfg!(target_os = "linux")) {
                return None;
            }
            let is_default = Some(&id) == default_id.as_ref();
            let formats = DeviceFormat::ALL.iter().filter(|format| offers.iter().any(|offer| offer.format == **format));
            let formats = formats.map(|format| format.name()).collect();
            let rates = |offer: &Offer| Rates { from: offer.rates.0, to: offer.rates.1 };
            let (mut channels, mut rates_hz): (Vec<_>, Vec<_>) =
                offers.iter().map(|offer| (offer.channels, rates(offer))).unzip();
            channels.sort_unstable();
            channels.dedup();
            rates_hz.sort_unstable();
            rates_hz.dedup();
            let name = description(&device).unwrap_or_else(|| id.clone());
            Some((device, Listed { id, name, is_default, formats, channels, rates_hz }))
        });
        Ok(listed.collect())
    }

    fn named(self, host: &cpal::Host, name: &str) -> Result<cpal::Device, DeviceError> {
        let mut devices = self.opened(host)?;
        let folded = name.to_lowercase();
        let is_part =
            |listed: &Listed| [&listed.id, &listed.name].iter().any(|text| text.to_lowercase().contains(&folded));
        let places = |is_it: &dyn Fn(&Listed) -> bool| -> Vec<usize> {
            (0..devices.len()).filter(|place| is_it(&devices[*place].1)).collect()
        };
        let number = name.parse().ok().filter(|number| *number < devices.len()).map(|number| vec![number]);
        let found = number
            .or_else(|| Some(places(&|listed| listed.id == name)).filter(|found| !found.is_empty()))
            .or_else(|| Some(places(&|listed| listed.name == name)).filter(|found| !found.is_empty()))
            .unwrap_or_else(|| places(&is_part));
        let told = |places: &mut dyn Iterator<Item = usize>| {
            let told = |place: usize| format!("{place} {} ({})", devices[place].1.id, devices[place].1.name);
            places.map(told).collect::<Vec<_>>().join(", ")
        };
        let (direction, name) = (self, name.to_owned());
        match found[..] {
            [place] => Ok(devices.swap_remove(place).0),
            [] if devices.is_empty() => {
                Err(DeviceError::Unknown { direction, name, there: format!("there is none at all; {NO_DEVICES}") })
            }
            [] => {
                let there = format!("there are {}", told(&mut (0..devices.len())));
                Err(DeviceError::Unknown { direction, name, there })
            }
            _ => Err(DeviceError::Ambiguous { direction, name, those: told(&mut found.iter().copied()) }),
        }
    }

    fn unusable(self, device: &str, why: &str) -> DeviceError {
        DeviceError::Unusable { direction: self, device: device.to_owned(), why: why.to_owned() }
    }

    /// What the system's refusal means, with the way out.
    fn refused(self, device: &str, error: &cpal::Error, quiet: &Quiet) -> DeviceError {
        let said = quiet.first().map_or_else(String::new, |words| format!(" ({words})"));
        let why = match error.kind() {
            ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => {
                format!("it is not there{said}; {NO_DEVICES}")
            }
            ErrorKind::PermissionDenied => {
                format!(
                    "this user may not use it{said}: on Linux it takes the group audio, elsewhere the system's leave"
                )
            }
            ErrorKind::DeviceBusy => {
                format!("another program has it for itself{said}; end that one, or take another device")
            }
            ErrorKind::UnsupportedOperation => format!("it is no {self}{said}"),
            _ => format!("{error}{said}"),
        };
        self.unusable(device, &why)
    }
}

fn offer(range: &SupportedStreamConfigRange) -> Option<Offer> {
    let buffer = match *range.buffer_size() {
        SupportedBufferSize::Range { min, max } => Some((min, max)),
        SupportedBufferSize::Unknown => None,
    };
    let rates = (range.min_sample_rate(), range.max_sample_rate());
    Some(Offer { format: known(range.sample_format())?, channels: range.channels(), rates, buffer })
}

fn known(format: SampleFormat) -> Option<DeviceFormat> {
    Some(match format {
        SampleFormat::I8 => DeviceFormat::I8,
        SampleFormat::I16 => DeviceFormat::I16,
        SampleFormat::I24 => DeviceFormat::I24,
        SampleFormat::I32 => DeviceFormat::I32,
        SampleFormat::I64 => DeviceFormat::I64,
        SampleFormat::U8 => DeviceFormat::U8,
        SampleFormat::U16 => DeviceFormat::U16,
        SampleFormat::U24 => DeviceFormat::U24,
        SampleFormat::U32 => DeviceFormat::U32,
        SampleFormat::U64 => DeviceFormat::U64,
        SampleFormat::F32 => DeviceFormat::F32,
        SampleFormat::F64 => DeviceFormat::F64,
        // One bit a sample.
        _ => return None,
    })
}

/// How `format` is called there.
pub(super) const fn asked(format: DeviceFormat) -> SampleFormat {
    match format {
        DeviceFormat::I8 => SampleFormat::I8,
        DeviceFormat::I16 => SampleFormat::I16,
        DeviceFormat::I24 => SampleFormat::I24,
        DeviceFormat::I32 => SampleFormat::I32,
        DeviceFormat::I64 => SampleFormat::I64,
        DeviceFormat::U8 => SampleFormat::U8,
        DeviceFormat::U16 => SampleFormat::U16,
        DeviceFormat::U24 => SampleFormat::U24,
        DeviceFormat::U32 => SampleFormat::U32,
        DeviceFormat::U64 => SampleFormat::U64,
        DeviceFormat::F32 => SampleFormat::F32,
        DeviceFormat::F64 => SampleFormat::F64,
    }
}

fn id(device: &cpal::Device) -> String {
    device.id().map_or_else(|_| String::new(), |id| id.id().to_owned())
}

fn description(device: &cpal::Device) -> Option<String> {
    device.description().ok().map(|description| description.name().to_owned())
}

/// As messages and the report call it.
fn shown(device: &cpal::Device) -> String {
    let id = id(device);
    match description(device) {
        Some(name) if name != id && !id.is_empty() => format!("{id} ({name})"),
        Some(name) => name,
        None => id,
    }
}
