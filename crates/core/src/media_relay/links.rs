//! What an operator has changed on the paths between members.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::impairment_patch::ImpairmentPatch;
use crate::units::InvalidValue;

/// Values for the paths between some members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The senders: an id, a name, or `*` for all.
    pub from: String,
    /// The receivers.
    #[serde(default = "everybody")]
    pub to: String,
    /// The members of an [`ImpairmentPatch`], as they were given.
    #[serde(flatten)]
    pub values: BTreeMap<String, Value>,
}

impl Link {
    /// The options over those of the server.
    pub(super) fn patch(&self) -> Result<ImpairmentPatch, InvalidValue> {
        ImpairmentPatch::new(self.values.clone())
    }
}

fn everybody() -> String {
    "*".to_owned()
}

/// Adds a change, whose values win over earlier ones. What has no effect any more goes, such as a null that no other value precedes.
pub(super) fn add(links: &mut Vec<Link>, link: Link) {
    let covers = |pattern: &str, other: &str| pattern == "*" || pattern == other;
    for other in links.iter_mut().filter(|other| covers(&link.from, &other.from) && covers(&link.to, &other.to)) {
        other.values.retain(|key, _| !link.values.contains_key(key));
    }
    links.push(link);
    let mut keys = BTreeSet::new();
    for link in links.iter_mut() {
        link.values.retain(|key, value| !value.is_null() || keys.contains(key));
        keys.extend(link.values.keys().cloned());
    }
    links.retain(|link| !link.values.is_empty());
}

/// Whether an id, a name or `*` means the member with this id and name.
pub fn is_meant(pattern: &str, names: &[impl AsRef<str>; 2]) -> bool {
    pattern == "*" || names.iter().any(|name| name.as_ref() == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries such as `Aki * loss=1`, in which `null` is no value.
    fn links(entries: &[&str]) -> Vec<Link> {
        let mut links = Vec::new();
        for entry in entries {
            let [from, to, key, value] =
                [0, 1, 2, 3].map(|index| entry.split([' ', '=']).nth(index).expect("four words").to_owned());
            let value = serde_json::from_str(&value).expect("a number or null");
            add(&mut links, Link { from, to, values: BTreeMap::from([(key, value)]) });
        }
        links
    }

    #[test]
    fn later_entries_win_key_by_key() {
        for (entries, expected) in [
            (&["Aki * loss=1", "Aki Ben delay=5"][..], "delay 5 loss 1"),
            (&["Aki * loss=1", "* Ben loss=2"], "loss 2"),
            (&["aki ben loss=1", "* * delay=2"], "delay 2 loss 1"),
            (&["Ben Aki loss=1", "Cho * loss=1", "Aki Cho loss=1"], ""),
            (&["* * loss=1", "Aki * loss=null"], ""),
            (&["* * loss=1", "Aki * loss=null", "* Ben loss=3"], "loss 3"),
            (&["* * loss=1", "Aki * delay=null"], "loss 1"),
        ] {
            let names = |name: &str| [name.to_lowercase(), name.to_owned()];
            let links = links(entries);
            let is_of = |link: &&Link| is_meant(&link.from, &names("Aki")) && is_meant(&link.to, &names("Ben"));
            let patches = links.iter().filter(is_of).map(|link| link.patch().expect("valid options"));
            let changes = patches.reduce(|earlier, later| later.after(earlier)).unwrap_or_default();
            let expected = ImpairmentPatch::from_words(expected).expect("valid options");
            assert_eq!(changes.over(ImpairmentPatch::default()), expected, "{entries:?}");
        }
    }

    #[test]
    fn entries_that_change_nothing_go() {
        for (entries, kept) in [
            (&["Aki * loss=1", "Aki * loss=2"][..], 1),
            (&["Aki Ben loss=1", "Aki * loss=2"], 1),
            (&["Aki * loss=1", "Aki Ben loss=2"], 2),
            (&["Aki * loss=1", "Aki * loss=null"], 0),
            (&["Aki Ben loss=1", "Cho * loss=1", "* * loss=null"], 0),
            (&["* * loss=1", "Aki * loss=null"], 2),
            (&["Aki * loss=1", "* Aki loss=1", "Aki * loss=null", "* Aki loss=null"], 0),
            (&["Aki * loss=null"], 0),
        ] {
            assert_eq!(links(entries).len(), kept, "{entries:?}");
        }
    }
}
