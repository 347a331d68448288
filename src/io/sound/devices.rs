//! Lists the audio devices of the system and selects one by name or index.

use std::collections::BTreeSet;
use std::fmt::Display;

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{ErrorKind, SampleFormat, SupportedBufferSize, SupportedStreamConfigRange};

use super::config::{DeviceConfig, SupportedConfig, select_config};
use super::error::{DeviceDirection, DeviceError, NO_DEVICES_HINT};
use super::list::UNKNOWN_FORMAT_HINT;
use super::stream::AlsaErrorCapture;
use crate::audio::sample_format::DeviceSampleFormat;
use crate::report::lists::{DeviceInfo, DeviceList, RateRange};

/// Whether a device matches a name.
type MatchRule<'a> = &'a dyn Fn(&DeviceInfo) -> bool;

/// The ALSA null device, which has no clock.
const ALSA_NULL_DEVICE: &str = "null";

/// A device and the configuration it will be opened with.
pub(crate) struct SelectedDevice {
    pub(super) direction: DeviceDirection,
    pub(super) device: cpal::Device,
    pub name: String,
    pub config: DeviceConfig,
    /// The sample format of `config`.
    pub(super) cpal_format: SampleFormat,
}

/// Lists all devices. Each device is opened, so devices in exclusive use by other programs are missing.
pub(crate) fn list_devices() -> Result<DeviceList, DeviceError> {
    let _errors = AlsaErrorCapture::install();
    let host = default_host()?;
    let list = |direction: DeviceDirection| -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(direction.openable_devices(&host)?.into_iter().map(|(_, info)| info).collect())
    };
    let (inputs, outputs) = (list(DeviceDirection::Input)?, list(DeviceDirection::Output)?);
    let unavailable_reason = (inputs.is_empty() || outputs.is_empty()).then(|| NO_DEVICES_HINT.to_owned());
    Ok(DeviceList { inputs, outputs, unavailable_reason })
}

/// Selects a device and its configuration for `rate`. `name` is an index, an id, a name, or a unique part of an id or
/// name. Empty is the default device.
pub(crate) fn select_device(direction: DeviceDirection, name: &str, rate: u32) -> Result<SelectedDevice, DeviceError> {
    let errors = AlsaErrorCapture::install();
    let host = default_host()?;
    let device = match name {
        "" => direction
            .default_device(&host)
            .ok_or_else(|| direction.device_error(&format!("the default {direction} device"), NO_DEVICES_HINT))?,
        name => direction.find_by_name(&host, name)?,
    };
    let name = display_name(&device);
    let supported =
        direction.supported_configs(&device).map_err(|error| direction.describe_error(&name, &error, &errors))?;
    let configs: Vec<SupportedConfig> = supported.iter().filter_map(supported_config).collect();
    let config = select_config(&configs, rate);
    let mut formats = supported.iter().map(SupportedStreamConfigRange::sample_format);
    let cpal_format = formats.find(|format| to_device_format(*format) == config.map(|config| config.format));
    let Some((config, cpal_format)) = config.zip(cpal_format) else {
        return Err(direction.device_error(&name, UNKNOWN_FORMAT_HINT));
    };
    Ok(SelectedDevice { direction, device, name, config, cpal_format })
}

impl SelectedDevice {
    /// Why the device could not be opened with this buffer, which the options set.
    pub(super) fn open_error(
        &self,
        error: &cpal::Error,
        (buffer, options): (u32, &str),
        errors: &AlsaErrorCapture,
    ) -> DeviceError {
        if error.kind() != ErrorKind::UnsupportedConfig {
            return self.direction.describe_error(&self.name, error, errors);
        }
        let DeviceConfig { format, channels, rate, .. } = self.config;
        let requested = format!("{}, {channels} channels, {rate} Hz, buffer of {buffer} frames", format.name);
        // Error messages of cpal end with a period, but those of the audio system do not.
        let error = error.to_string();
        let error = error.trim_end_matches('.');
        let reason = format!(
            "the device rejects a configuration that it reports as supported ({requested}): {error}; try another value of {options}"
        );
        self.direction.device_error(&self.name, &reason)
    }
}

fn host_error(reason: &dyn Display) -> DeviceError {
    DeviceError(format!("cannot use the audio system: {reason}"))
}

fn default_host() -> Result<cpal::Host, DeviceError> {
    let id = cpal::ALL_HOSTS.first().ok_or_else(|| host_error(&"there is none on this system"))?;
    cpal::host_from_id(*id).map_err(|error| host_error(&error))
}

impl DeviceDirection {
    fn default_device(self, host: &cpal::Host) -> Option<cpal::Device> {
        match self {
            Self::Input => host.default_input_device(),
            Self::Output => host.default_output_device(),
        }
    }

    fn supported_configs(self, device: &cpal::Device) -> Result<Vec<SupportedStreamConfigRange>, cpal::Error> {
        match self {
            Self::Input => device.supported_input_configs().map(Iterator::collect),
            Self::Output => device.supported_output_configs().map(Iterator::collect),
        }
    }

    /// All devices that can be opened. If the system does not list the default device, this device is added at the front.
    fn openable_devices(self, host: &cpal::Host) -> Result<Vec<(cpal::Device, DeviceInfo)>, DeviceError> {
        let default = self.default_device(host);
        let default_id = default.as_ref().map(device_id);
        let devices = host.devices().map_err(|error| host_error(&error))?;
        let mut devices: Vec<cpal::Device> = devices.collect();
        if let Some(default) = default
            && devices.iter().all(|device| Some(device_id(device)) != default_id)
        {
            devices.insert(0, default);
        }
        let openable = devices.into_iter().filter_map(|device| {
            let id = device_id(&device);
            let supported: Vec<SupportedConfig> =
                self.supported_configs(&device).ok()?.iter().filter_map(supported_config).collect();
            // If the device does not support this direction (input or output), ALSA returns an error. All other audio systems return an
            // empty list.
            if id == ALSA_NULL_DEVICE || (supported.is_empty() && !cfg!(target_os = "linux")) {
                return None;
            }
            let default = Some(&id) == default_id.as_ref();
            let is_supported = |format: &DeviceSampleFormat| supported.iter().any(|config| config.format == *format);
            let formats = DeviceSampleFormat::ALL.into_iter().filter(is_supported).map(|format| format.name).collect();
            let rates = |config: &SupportedConfig| RateRange { from: config.rate_range.0, to: config.rate_range.1 };
            let (channels, rates_hz): (BTreeSet<_>, BTreeSet<_>) =
                supported.iter().map(|config| (config.channels, rates(config))).unzip();
            let (channels, rates_hz) = (Vec::from_iter(channels), Vec::from_iter(rates_hz));
            let name = device_name(&device).unwrap_or_else(|| id.clone());
            Some((device, move |index| DeviceInfo { index, id, name, default, formats, channels, rates_hz }))
        });
        Ok(openable.enumerate().map(|(index, (device, info_at))| (device, info_at(index))).collect())
    }

    fn find_by_name(self, host: &cpal::Host, name: &str) -> Result<cpal::Device, DeviceError> {
        let mut devices = self.openable_devices(host)?;
        let folded = name.to_lowercase();
        let is_part =
            |info: &DeviceInfo| [&info.id, &info.name].iter().any(|text| text.to_lowercase().contains(&folded));
        let rules: [MatchRule<'_>; 4] =
            [&|info| name.parse() == Ok(info.index), &|info| info.id == name, &|info| info.name == name, &is_part];
        let matching = |rule: &MatchRule<'_>| -> Vec<usize> {
            devices.iter().map(|(_, info)| info).filter(|info| rule(info)).map(|info| info.index).collect()
        };
        let found = rules.iter().map(matching).find(|found| !found.is_empty()).unwrap_or_default();
        let describe = |indexes: &mut dyn Iterator<Item = usize>| {
            let device = |index: usize| format!("{index} {} ({})", devices[index].1.id, devices[index].1.name);
            indexes.map(device).collect::<Vec<_>>().join(", ")
        };
        Err(DeviceError(match found[..] {
            [index] => return Ok(devices.swap_remove(index).0),
            [] if devices.is_empty() => {
                format!("no {self} device matches {name}; there are no devices: {NO_DEVICES_HINT}")
            }
            [] => format!("no {self} device matches {name}; available: {}", describe(&mut (0..devices.len()))),
            _ => {
                let matches = describe(&mut found.iter().copied());
                format!("several {self} devices match {name}: {matches}; use the full name or the index")
            }
        }))
    }

    pub(super) fn device_error(self, device: &str, reason: &str) -> DeviceError {
        let action = match self {
            Self::Input => "capture from",
            Self::Output => "play on",
        };
        DeviceError(format!("cannot {action} {device}: {reason}"))
    }

    /// Describes an error of the audio system, with a remedy.
    fn describe_error(self, device: &str, error: &cpal::Error, errors: &AlsaErrorCapture) -> DeviceError {
        let detail = errors.first_message().map_or_else(String::new, |message| format!(" ({message})"));
        let reason = match error.kind() {
            ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => {
                format!("device not found{detail}; {NO_DEVICES_HINT}")
            }
            ErrorKind::PermissionDenied => format!(
                "permission denied{detail}. On Linux, add this user to the group `audio`. On other systems, allow access in \
                 the system settings"
            ),
            ErrorKind::DeviceBusy => {
                format!("another program has exclusive use of the device{detail}; close it, or select another device")
            }
            ErrorKind::UnsupportedOperation => format!("not an {self} device{detail}"),
            _ => format!("{error}{detail}"),
        };
        self.device_error(device, &reason)
    }
}

/// `None` for other formats, such as DSD with one bit per sample. The names of cpal are `i16`, `f32` and so on.
fn to_device_format(format: SampleFormat) -> Option<DeviceSampleFormat> {
    DeviceSampleFormat::by_name(&format.to_string())
}

fn supported_config(range: &SupportedStreamConfigRange) -> Option<SupportedConfig> {
    let buffer_range = match *range.buffer_size() {
        SupportedBufferSize::Range { min, max } => Some((min, max)),
        SupportedBufferSize::Unknown => None,
    };
    let rate_range = (range.min_sample_rate(), range.max_sample_rate());
    Some(SupportedConfig {
        format: to_device_format(range.sample_format())?,
        channels: range.channels(),
        rate_range,
        buffer_range,
    })
}

fn device_id(device: &cpal::Device) -> String {
    device.id().map_or_else(|_| String::new(), |id| id.id().to_owned())
}

fn device_name(device: &cpal::Device) -> Option<String> {
    device.description().ok().map(|description| description.name().to_owned())
}

/// Name in messages and reports.
fn display_name(device: &cpal::Device) -> String {
    let id = device_id(device);
    match device_name(device) {
        Some(name) if name != id && !id.is_empty() => format!("{id} ({name})"),
        Some(name) => name,
        None => id,
    }
}
