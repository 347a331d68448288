//! What the operator changes between jamjam members whose media is relayed.

use std::collections::BTreeSet;

use serde_json::{Value, from_value, json};

use super::close_code::CloseCode;
use super::device::DeviceId;
use super::hub::Hub;
use super::lock::lock;
use super::room::{Member, MemberData, MemberInfo, Room};
use jamjam_core::media_relay::{Link, is_meant};
use jamjam_core::time::WallClock;
use jamjam_core::units::InvalidValue;

/// Maximum number of members that are remembered as severed.
const MAX_SEVERED: usize = 1_000;

impl Hub {
    /// Whether upgrade requests of this device are to be rejected.
    pub fn is_severed(&self, device: &DeviceId) -> bool {
        self.jamjam.is_severed(Some(device), None)
    }

    /// The changed paths, and who is severed from the server, as the operator has named them.
    pub fn links(&self) -> Value {
        let jamjam = &self.jamjam;
        let listed = |(link, members): (Link, usize)| {
            let mut link = json!(link);
            link["members"] = members.into();
            link
        };
        let links = jamjam.media.as_ref().map(|media| media.links().into_iter().map(listed).collect::<Vec<_>>());
        let severed: BTreeSet<String> = lock(&jamjam.severed).iter().map(|(from, ..)| from.clone()).collect();
        json!({ "links": links, "severed": severed })
    }

    /// Changes paths. The values `both`, `signaling`, `renumber` and `require` are no impairment: they change the opposite direction, too, sever the
    /// senders from the server, renumber them, and reject a change that applies to no member. Returns the number of members to which it applies.
    pub fn change_link(&self, now: WallClock, mut link: Link) -> Result<usize, InvalidValue> {
        let media = self.jamjam.media.as_ref();
        let media = media.ok_or_else(|| InvalidValue("the server relays no media; add --relay-media".to_owned()))?;
        let mut switch = |key: &str| {
            let value = link.values.remove(key).map(from_value::<Option<bool>>).transpose();
            value.map_err(|error| InvalidValue(format!("{key}: {error}")))
        };
        let all = [switch("both")?, switch("renumber")?, switch("require")?, switch("signaling")?];
        if link.values.is_empty() && all.iter().all(Option::is_none) {
            return Err(InvalidValue("nothing is to be changed; add an option, such as \"loss\": 100".to_owned()));
        }
        let (from, is_on) = (link.from.clone(), all.map(|value| value == Some(Some(true))));
        let members = media.change(link, is_on)?;
        if all[3].is_some() {
            self.sever(now, &from, is_on[3]);
        }
        Ok(members)
    }

    /// Severs members from the server, or restores them. Their connections are dropped without a close frame, and new ones are refused until they
    /// are restored. Above the maximum, the devices and names that were severed first are restored.
    fn sever(&self, now: WallClock, from: &str, is_severed: bool) {
        let (jamjam, mut dropped) = (&self.jamjam, Vec::new());
        if !is_severed {
            lock(&jamjam.severed).retain(|(by, _, name)| from != "*" && by != from && name != from);
            return;
        }
        let sever = |device, name: &str| {
            let (entry, mut severed) = ((from.to_owned(), device, name.to_owned()), lock(&jamjam.severed));
            severed.retain(|known| *known != entry);
            severed.insert(0, entry);
            severed.truncate(MAX_SEVERED);
        };
        // Before the members are searched, so that nobody joins meanwhile, and after it, so that this entry is the last one to be removed.
        sever(None, from);
        jamjam.rooms.map(|room| {
            for Member { conn, data, .. } in room.roster().receivers() {
                let MemberInfo { id, name, .. } = data.info();
                let name = name.unwrap_or_default();
                if is_meant(from, &[id, name]) {
                    let device = self.server.connection(*conn, |connection| connection.device.clone()).flatten();
                    sever(device, name);
                    dropped.push(*conn);
                }
            }
        });
        sever(None, from);
        for (conn, queue) in self.server.queues(&dropped) {
            // Its room keeps the place of an owner, as after a lost connection.
            self.on_disconnect(now, conn);
            queue.end(CloseCode::ABNORMAL_CLOSURE, "");
        }
    }
}
