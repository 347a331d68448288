//! The lists of rooms and of sound devices as JSON.

use crate::document::column::figures;
use jamjam_signaling::client::RoomInfo;

figures! {
    /// The rooms of a signaling server.
    RoomList {
        /// Rooms in the order of the server's list.
        rooms: Vec<ListedRoom>;
    }

    /// A room of a signaling server.
    ListedRoom from room: &RoomInfo {
        /// Room ID, accepted by --room. On jamjam-dev's server: eight lower-case hexadecimal digits.
        id: String = room.id.clone();
        /// Invite code, also accepted by --room. On jamjam-dev's server: six letters and digits, or nine at /v1/signaling.
        invite_code: String = room.invite_code.clone();
        /// Name given by the creator of the room. It may contain control characters: replace them before printing.
        name: String = room.name.clone();
        /// Number of members.
        members: usize = room.peer_count;
        /// Maximum number of members.
        max_members: usize = room.max_peers;
        /// Whether joining requires --password.
        has_password: bool = room.has_password;
    }

    /// The sound devices of this machine.
    #[derive(Default)]
    DeviceList {
        /// Capture devices.
        inputs: Vec<DeviceInfo>;
        /// Playback devices.
        outputs: Vec<DeviceInfo>;
        /// If there are no devices at all: the probable cause and a remedy; otherwise null.
        unavailable_reason: Option<String>;
    }

    /// A sound device.
    #[derive(Eq)]
    DeviceInfo {
        /// Position in this list, which selects the device. It changes when devices are connected or disconnected.
        index: usize;
        /// The system's identifier, unique in this list.
        id: String;
        /// Name from the device or the system settings. It may contain control characters: replace them before printing.
        name: String;
        /// Whether this device is used if no device is selected.
        default: bool;
        /// Supported sample formats: float, signed or unsigned integer, and the number of bits. If the program supports no format of the
        /// device, the device cannot be used, and this list, `channels` and `rates_hz` are empty.
        formats: Vec<&'static str>;
        /// Supported numbers of channels, in ascending order.
        channels: Vec<u16>;
        /// Supported sample rates in Hz, in ascending order: single rates or ranges.
        rates_hz: Vec<RateRange>;
    }

    /// Sample rates of a device.
    #[derive(Copy, Eq, PartialOrd, Ord)]
    RateRange {
        /// The lowest rate.
        from: u32;
        /// The highest rate.
        to: u32;
    }
}
