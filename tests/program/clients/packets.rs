//! The packets that `send` and `probe` send, as received by an independent server.

use test_support::client::{AUDIO, INFO, KEEPALIVE, PING, Packet, Server, Wav, document, fixture, run, together};

use crate::clients::report;

#[test]
fn packets_of_a_16_bit_file_match_the_protocol() {
    let server = Server::correct();
    report(0, &format!("send --wav fixtures/audio/speech-16bit-mono-48k.wav --to {} --spin 0", server.to()));

    // 72,000 samples are 562 packets of 128 samples and one of 64.
    let samples = Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples();
    let audio = server.received_of(AUDIO);
    assert_eq!(audio.len(), 563);
    for (index, packet) in audio.iter().enumerate() {
        let from = index * 128;
        let payload = samples[from..(from + 128).min(72_000)].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let expected =
            Packet { version: 1, kind: 1, sequence: index as u32 + 1, timestamp: from as u32, flags: 0, payload };
        assert_eq!(packet, &expected, "packet {index}");
    }

    // During 1.5 s of audio, KEEPALIVE and ping are sent at 0 and 1 s. Each type has its own sequence numbers.
    let keepalives: Vec<_> = server.received_of(KEEPALIVE).iter().map(Packet::bytes).collect();
    assert_eq!(keepalives, [[1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]]);
    let pings = server.received_of(PING);
    for (number, ping) in pings.iter().enumerate() {
        let number = number as u32;
        assert_eq!((ping.version, ping.sequence, ping.timestamp, ping.flags), (1, number, 0, 0));
        assert_eq!((ping.payload.len(), &ping.payload[8..]), (12, &number.to_be_bytes()[..]));
    }
    let sent_us = pings.iter().map(|ping| u64::from_be_bytes(ping.payload[..8].try_into().unwrap()));
    let [first, second] = sent_us.collect::<Vec<_>>()[..] else { panic!("{pings:?}") };
    // The two pings are due one second apart. A busy machine may send a ping late, but never early.
    assert!(second > first);

    let infos: Vec<_> = server.received_of(INFO).iter().map(Packet::bytes).collect();
    let mut info = vec![1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    info.extend([0; 20]); // five delays of 0.0 ms
    info.extend([0, 0, 0, 128, 0, 0, 0xbb, 0x80, 3, b'p', b'c', b'm', 1]);
    assert_eq!(infos, [info]);
    assert_eq!(server.received().len(), 563 + 2 + 2 + 1);
}

#[test]
fn frame_size_may_be_any_length_that_fits() {
    // 100 ms are 4,800 samples at 48 kHz. The last packet is shorter. A packet of 365 samples fits in an Ethernet frame.
    let cases = [("64", 64, 75), ("2.5ms", 120, 40), ("365", 365, 14), ("366", 366, 14), ("16373", 16_373, 1)];
    together(cases, |(frame, samples, packets)| {
        let server = Server::correct();
        let line =
            format!("send --tone 440 --duration 100ms --frame-size {frame} --to {} --spin 0 --json", server.to());
        let output = run(&line);
        assert_eq!(output.code, 0, "{output:?}");
        let report = document::report(&output);
        let counts = document::counts(&report, "audio", ["sent", "not_sent"]);
        assert_eq!((counts, &report["audio"]["frame_samples"]), ([packets, 0], &samples.into()), "{frame}");
        for packet in server.received_of(AUDIO) {
            let (index, first) = (packet.sequence as usize - 1, packet.timestamp as usize);
            let length = samples.min(4_800 - first);
            assert_eq!((first, packet.payload.len()), (index * samples, 4 * length), "{frame}");
        }
        // They leave even if the audio ends with its first packet.
        assert_eq!([KEEPALIVE, PING, INFO].map(|kind| server.received_of(kind).len()), [1; 3], "{frame}");
        let warned = output.stderr.contains("do not fit in an Ethernet frame");
        assert_eq!(warned, samples > 365, "{frame}: {}", output.stderr);
    });
}
