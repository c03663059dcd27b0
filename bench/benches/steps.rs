//! What does each step of a frame's life cost? One benchmark for each, on 20 ms of sound or one packet, so that the
//! figures can be set beside each other: the steps up to the ring are paid once, those after it for every participant.

use std::{hint::black_box, net::SocketAddr, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use holdmusic_codecs::{Codec, DecodeLimits, EncoderSettings, Loop, decode, music, resample, to_mono};
use holdmusic_media::{
    Cname, LegId, LegSpec, MediaTime, Music, Now, Numbering, SourceId, Tick, WallTime,
    pacer::{Command, Pacer},
    packetizer::Packetizer,
    protect::{MAX_GROWTH, Protector, Suite},
    rtp::{HEADER_LEN, Header, PayloadType, SeqNo, Ssrc, Timestamp},
    sink::{Batch, Sink},
    source::{Progress, rendition},
};

const STEREO: &[u8] = include_bytes!("../../assets/fixtures/rates/stereo-44100.wav");

/// Paid once for a prompt: reading, mixing down, resampling, making the loop, encoding.
fn prepared_once(c: &mut Criterion) {
    let mut group = c.benchmark_group("once for a prompt");
    let recording = decode(STEREO, &DecodeLimits::default()).expect("a fixture of ours");
    let mono = to_mono(&recording.pcm);
    let frames = (recording.pcm.seconds() * 50.0) as u64;
    group.throughput(Throughput::Elements(frames));
    group.bench_function("decode WAV, per frame", |b| b.iter(|| decode(STEREO, &DecodeLimits::default())));
    group.bench_function("mix down, per frame", |b| b.iter(|| to_mono(&recording.pcm)));
    group.bench_function("resample 44.1 to 16 kHz, per frame", |b| b.iter(|| resample(&mono, 16_000)));
    group.bench_function("resample into a loop, per frame", |b| b.iter(|| Loop::new(&mono, 16_000, 320)));
    let music = music::default_music();
    let samples = &music.samples()[..320 * 50];
    group.throughput(Throughput::Elements(50));
    group.bench_function("encode Opus, per frame", |b| {
        let mut encoder = Codec::Opus.encoder(&EncoderSettings::default()).expect("default settings");
        let mut payload = [0; 1280];
        b.iter(|| {
            for frame in samples.chunks(320) {
                black_box(encoder.encode(frame, &mut payload).expect("a whole frame"));
            }
        });
    });
    group.finish();
}

/// Paid for every packet of every participant: reading the ring, numbering, and the whole tick of a sender.
fn paid_per_packet(c: &mut Criterion) {
    let sound = Arc::new(Loop::new(&music::default_music(), 16_000, 320));
    let (reader, mut job) =
        rendition(sound, Codec::Opus, &EncoderSettings::default()).expect("default settings");
    while job.step(1000).expect("our own music") != Progress::Closed {}

    let mut group = c.benchmark_group("for every packet");
    group.throughput(Throughput::Elements(1));
    let mut payload = [0; 1280];
    let mut position = 0;
    group.bench_function("read the ring", |b| {
        b.iter(|| {
            position += 17;
            black_box(reader.at(position, &mut payload))
        });
    });
    group.bench_function("number and write a header", |b| {
        let mut packetizer = Packetizer::new(Codec::Opus, payload_type(), numbering(1));
        packetizer.begin(Tick(0), MediaTime::ZERO);
        let mut tick = Tick(0);
        let mut header = [0; HEADER_LEN];
        b.iter(|| {
            packetizer.header(tick).write(&mut header);
            packetizer.sent(tick);
            tick = tick.next();
            black_box(header)
        });
    });
    for suite in Suite::ALL {
        group.bench_function(format!("protect, {}, 80 byte payload", suite.name()), |b| {
            let key = vec![1; suite.master_key_len()];
            let salt = vec![2; suite.master_salt_len()];
            let mut protector = Protector::new(suite, &key, &salt).expect("lengths of the suite");
            let mut packetizer = Packetizer::new(Codec::Opus, payload_type(), numbering(1));
            packetizer.begin(Tick(0), MediaTime::ZERO);
            let header = packetizer.header(Tick(0));
            let mut sequence = SeqNo(0);
            let mut room = [0; HEADER_LEN + 80 + MAX_GROWTH];
            b.iter(|| {
                // Each packet has its own place in the keystream; the payload is what the one before left behind.
                Header { sequence, ..header }.write(room.first_chunk_mut().expect("room for a header"));
                sequence = sequence.after(1);
                black_box(protector.protect(&mut room, HEADER_LEN + 80))
            });
        });
    }
    for legs in [100u64, 1000, 3000] {
        group.throughput(Throughput::Elements(legs));
        group.bench_function(format!("prepare, send to memory and settle, {legs} legs, per packet"), |b| {
            b.iter_batched_ref(
                || full_pacer(legs, &reader),
                |(pacer, now)| {
                    let end = *now + Duration::from_millis(20);
                    while *now < end {
                        *now = pacer.prepare(at(*now));
                        pacer.send(*now, &mut Memory);
                        black_box(pacer.settle(*now, *now));
                    }
                },
                BatchSize::NumIterations(50),
            );
        });
    }
    group.finish();
}

/// A sink that takes everything and does nothing.
struct Memory;

impl Sink for Memory {
    fn send(&mut self, batch: &Batch, _refused: &mut Vec<usize>) {
        for index in 0..batch.len() {
            black_box(batch.datagram(index));
        }
    }
}

fn full_pacer(legs: u64, reader: &holdmusic_media::ring::Reader) -> (Pacer, MediaTime) {
    let mut pacer = Pacer::new(1, Duration::from_secs(10));
    for leg in 0..legs {
        let number = u32::try_from(leg).expect("few");
        let destination = SocketAddr::from((std::net::Ipv4Addr::from(0x7f00_0001 + number), 4000));
        let spec = LegSpec {
            sender: 0,
            destination,
            rtcp: Some(destination),
            codec: Codec::Opus,
            payload_type: payload_type(),
            numbering: numbering(number),
            cname: Cname::new(u128::from(number)),
        };
        let now = at(MediaTime::from_millis(leg % 20));
        pacer.handle_command(now, Command::AddLeg { leg: LegId(leg), spec: Box::new(spec) });
        let music = Music { source: SourceId(0), reader: reader.clone(), is_default: true };
        pacer.handle_command(now, Command::Play { leg: LegId(leg), music, numbering: None, since: None });
    }
    while pacer.poll_event().is_some() {}
    (pacer, MediaTime::from_millis(40))
}

fn at(mono: MediaTime) -> Now {
    Now { mono, wall: WallTime(1_700_000_000_000_000) }
}

fn payload_type() -> PayloadType {
    PayloadType::new(111).expect("a dynamic one")
}

fn numbering(number: u32) -> Numbering {
    Numbering { ssrc: Ssrc(number), sequence: SeqNo(0), timestamp: Timestamp(0), at: MediaTime::ZERO }
}

criterion_group!(benches, prepared_once, paid_per_packet);
criterion_main!(benches);
