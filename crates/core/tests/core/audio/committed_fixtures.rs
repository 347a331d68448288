//! The committed sound files are identical to the generator's output on this platform.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

#[path = "../../../../../fixtures/audio/make/mod.rs"]
mod make;

fn folder() -> PathBuf {
    test_support::repository().join("fixtures/audio")
}

#[test]
fn committed_files_equal_the_generator_output() {
    for (name, made) in make::files() {
        let committed = fs::read(folder().join(name)).unwrap();
        let differs = committed.iter().zip(&made).position(|(a, b)| a != b);
        assert!(
            committed == made,
            "{name} differs ({} and {} bytes, first at {differs:?})",
            committed.len(),
            made.len()
        );
    }
}

#[test]
fn every_committed_file_comes_from_the_generator() {
    let made: BTreeSet<String> = make::files().iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut found = BTreeSet::new();
    for sub in ["", "broken/"] {
        for entry in
            fs::read_dir(folder().join(sub)).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file())
        {
            found.insert(format!("{sub}{}", entry.file_name().to_str().unwrap()));
        }
    }
    assert_eq!(found, made);
}

/// Length and FNV-1a hash of each file, computed with another program. If the generator changes, update these values.
const PINNED: [(&str, usize, u64); 21] = [
    ("speech-16bit-mono-48k.wav", 144_044, 0xa5c6_335e_b62d_c494),
    ("music-16bit-stereo-44k1.wav", 176_444, 0x83cc_b0d5_e0e8_afc1),
    ("24bit-mono-48k.wav", 72_044, 0x45aa_a47c_2f39_1f68),
    ("float-96k.wav", 192_058, 0xeab9_f5b8_be00_6f4c),
    ("8ch-16bit-48k.wav", 384_044, 0xa679_d782_e8ba_bb8e),
    ("broken/truncated.wav", 2_045, 0x90b5_287f_9b1c_95cb),
    ("broken/truncated-24bit.wav", 2_146, 0xb859_ca8c_583b_a1e9),
    ("broken/data-length-too-big.wav", 2_044, 0x4597_767d_d82a_86c4),
    ("broken/data-length-0.wav", 2_044, 0x52fe_bb09_1d61_7734),
    ("broken/data-length-ffffffff.wav", 2_044, 0x315f_713a_34df_6410),
    ("broken/data-length-odd.wav", 2_045, 0xd139_5a20_8101_a9a7),
    ("broken/riff-size-wrong.wav", 2_044, 0xfed9_46ce_945b_432f),
    ("broken/chunks-in-odd-order.wav", 2_224, 0xef79_4486_1d70_283e),
    ("broken/ima-adpcm.wav", 572, 0x330a_98cf_4290_a26b),
    ("broken/extensible-unknown-subformat.wav", 468, 0xf511_3520_240f_755d),
    ("broken/empty-file.wav", 0, 0xcbf2_9ce4_8422_2325),
    ("broken/empty-data.wav", 44, 0x829c_1dae_4ebe_2351),
    ("broken/zero-channels.wav", 2_044, 0x4592_dcff_2f95_7724),
    ("broken/zero-rate.wav", 2_044, 0x8187_f4e3_b5e8_1298),
    ("broken/not-a-wav.wav", 41, 0x9a46_81c3_1275_ff22),
    ("broken/header-cut-in-fmt.wav", 30, 0xdce9_c539_b1b4_c57e),
];

#[test]
fn generator_output_has_its_recorded_hashes() {
    let made: Vec<_> = make::files().into_iter().map(|(name, bytes)| (name, bytes.len(), fnv1a(&bytes))).collect();
    assert_eq!(made, PINNED);
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
