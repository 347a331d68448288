//! A header that claims 4 GiB of data causes no large allocation. A program of its own, because the peak memory is that of the process.
#![cfg(target_os = "linux")]

use jamjam_dev::audio::wav::WavStream;

/// The peak of this process's mapped memory in KiB, whether the memory was accessed or not.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn header_claiming_4_gib_allocates_almost_nothing() {
    let before = peak_kib();
    for (chunk, length) in
        [("data", 0xfffe_fff0_u32), ("data", 0x7000_0000), ("LIST", 0xffff_fff0), ("fmt ", 0xffff_ffff)]
    {
        let mut file = b"RIFF\xff\xff\xff\xffWAVE".to_vec();
        if chunk == "data" {
            file.extend(b"fmt \x10\0\0\0\x01\0\x02\0\x80\xbb\0\0\0\xee\x02\0\x04\0\x10\0");
        }
        file.extend(chunk.as_bytes());
        file.extend(length.to_le_bytes());
        file.extend([0x55; 400]);
        let mut samples = Vec::new();
        let played = WavStream::open(file.as_slice()).and_then(|mut stream| stream.read(usize::MAX, &mut samples));
        assert_eq!(played.ok(), (chunk == "data").then_some(100), "{chunk} {length:#x}");
    }
    let grown = peak_kib() - before;
    assert!(grown < 8 * 1024, "{grown} KiB more");
}
