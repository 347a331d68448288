//! Impairment options in words and as JSON: reading is total, what is accepted is an impairment, and levels lie over each other as documented.

use jamjam_dev::impairment_patch::ImpairmentPatch;
use serde_json::{Map, Value};

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let json =
        serde_json::from_str::<Map<String, Value>>(&text).ok().and_then(|values| ImpairmentPatch::new(values).ok());
    for patch in ImpairmentPatch::from_words(&text).ok().into_iter().chain(json) {
        let (none, own) = (ImpairmentPatch::default(), patch.clone().impairment());
        assert!([own.loss, own.duplicate].iter().all(|ratio| (0.0..=1.0).contains(ratio)), "{own:?}");
        assert_eq!(patch.clone().after(none.clone()), patch);
        // Nothing below is restored, and what lies over the same options changes nothing.
        let over = patch.clone().over(none);
        assert_eq!((over.clone().over(patch.clone()), over.impairment()), (patch.clone().over(patch), own));
    }
}
