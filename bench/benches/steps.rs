//! What does each step of a frame's life cost? One benchmark for each, on 20 ms of sound or one packet, so that the
//! figures can be set beside each other: the steps up to the ring are paid once, those after it for every participant.

use std::{hint::black_box, net::SocketAddr, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use holdmusic_codecs::{
    Codec, DecodeLimits, EncoderSettings, Loop, decode, level::measure, music, resample, to_mono,
};
use holdmusic_control::{
    Ask, CallId, Control, DeliveryOutcome, Input, Output, ParticipantId, RequestId, Settings,
    access::{Caller, Identity, Limits},
    graph::{
        read_create_call, read_create_participant, read_media_leg, read_start_hold_music,
        read_stop_hold_music,
    },
};
use holdmusic_media::{
    Cname, HoldReport, Keying, LegId, LegSpec, MasterKey, MediaTime, Music, Now, Numbering, Protection,
    SourceId, Suite, Tick, WallTime,
    pacer::{Command, Pacer, PacerSettings},
    packetizer::Packetizer,
    protect::{MAX_GROWTH, Protector},
    ring::Reader,
    rtp::{HEADER_LEN, Header, PayloadType, SeqNo, Ssrc},
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
    let narrow = resample(&mono, 16_000);
    group.bench_function("measure loudness and true peak at 16 kHz, per frame", |b| {
        b.iter(|| measure(narrow.samples(), 16_000, true));
    });
    let music = music::default_music();
    for &codec in Codec::ALL {
        let sound = resample(&music, codec.sample_rate());
        // A second of it.
        let samples = &sound.samples()[..codec.sample_rate() as usize];
        let frames = samples.chunks(codec.samples_per_frame());
        group.throughput(Throughput::Elements(frames.len() as u64));
        group.bench_function(format!("encode {codec:?}, per frame of {} ms", codec.frame_ms()), |b| {
            let mut encoder = codec.encoder(&EncoderSettings::default()).expect("default settings");
            let mut payload = [0; 1280];
            b.iter(|| {
                for frame in frames.clone() {
                    black_box(encoder.encode(frame, &mut payload).expect("a whole frame"));
                }
            });
        });
    }
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
        for payload_len in [80, 160] {
            group.bench_function(format!("protect, {}, {payload_len} byte payload", suite.name()), |b| {
                let master = MasterKey::new(suite, &vec![1; suite.master_len()]).expect("its length");
                let protector = Protector::new(&master, None);
                let mut packetizer = Packetizer::new(Codec::Opus, payload_type(), numbering(1));
                packetizer.begin(Tick(0), MediaTime::ZERO);
                let header = packetizer.header(Tick(0));
                let mut sequence = SeqNo(0);
                let mut room = [0; HEADER_LEN + 160 + MAX_GROWTH];
                b.iter(|| {
                    // Each packet has its own place in the keystream; the payload is what the one before left behind.
                    Header { sequence, ..header }.write(room.first_chunk_mut().expect("room for a header"));
                    sequence = sequence.after(1);
                    black_box(protector.protect(&mut room, HEADER_LEN + payload_len, 0))
                });
            });
        }
    }
    // Of those with followers every hundredth packet is a copy, then every second one.
    let plain = [(100u64, 0), (1000, 0), (3000, 0), (990, 10), (500, 500)].map(|legs| (legs, None));
    let protected = Suite::ALL.map(|suite| ((3000, 0), Some(suite)));
    for ((legs, followed), suite) in plain.into_iter().chain(protected) {
        group.throughput(Throughput::Elements(legs + followed));
        let mut name = format!("prepare, send to memory and settle, {legs} legs");
        if followed > 0 {
            name += &format!(" and {followed} that follow");
        }
        if let Some(suite) = suite {
            name += &format!(" with {}", suite.name());
        }
        group.bench_function(format!("{name}, per packet"), |b| {
            b.iter_batched_ref(
                || full_pacer((legs, followed), suite, &reader),
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

/// A pacer with `legs` legs that play, and one more that follows each of the first `followed`.
fn full_pacer((legs, followed): (u64, u64), suite: Option<Suite>, reader: &Reader) -> (Pacer, MediaTime) {
    let mut pacer = Pacer::new(1, PacerSettings::default());
    for leg in 0..legs + followed {
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
            protection: suite.map_or(Protection::Plain, |suite| protection(suite, number)),
            peer: None,
        };
        let now = at(MediaTime::from_millis(leg % 20));
        pacer.handle_command(now, Command::AddLeg { leg: LegId(leg), spec: Box::new(spec) });
        if let Some(leader) = leg.checked_sub(legs) {
            pacer.handle_command(now, Command::Follow { leg: LegId(leg), leader: LegId(leader) });
            continue;
        }
        let music = Music { source: SourceId(0), reader: reader.clone(), is_default: true };
        pacer.handle_command(now, Command::Play { leg: LegId(leg), music, numbering: None, since: None });
    }
    while pacer.poll_event().is_some() {}
    (pacer, MediaTime::from_millis(40))
}

/// Keys of its own for each leg.
fn protection(suite: Suite, number: u32) -> Protection {
    let master: Vec<_> = number.to_be_bytes().into_iter().cycle().take(suite.master_len()).collect();
    let send = MasterKey::new(suite, &master).expect("its length");
    Protection::Srtp(Box::new(Keying { send, receive: None, mki: None, rollover_counter: 0, srtcp_index: 0 }))
}

fn at(mono: MediaTime) -> Now {
    Now { mono, wall: WallTime(1_700_000_000_000_000) }
}

fn payload_type() -> PayloadType {
    PayloadType::new(111).expect("a dynamic one")
}

fn numbering(number: u32) -> Numbering {
    Numbering::new(Ssrc(number))
}

/// Paid for every request: control's decisions, with the answer and the notifications written, as HTTP finds them.
fn paid_per_request(c: &mut Criterion) {
    let mut desk = Desk::new();
    let id = |answer: &str| {
        let answer: serde_json::Value = serde_json::from_str(answer).expect("control answers in JSON");
        answer["id"].as_str().expect("what was made has a name").to_owned()
    };
    let create = read_create_call(br#"{"callbackUri":"https://bot.contoso.com/api"}"#).expect("a callback");
    let call = CallId::read(&id(&desk.ask(Ask::CreateCall(create)))).expect("its own name");
    let create = read_create_participant(
        br#"{"mediaLeg":{"rtp":{"address":"127.0.0.1:40000","codec":"opus","payloadType":111}}}"#,
    )
    .expect("a leg");
    let who =
        ParticipantId::read(&id(&desk.ask(Ask::CreateParticipant { call, create }))).expect("its own name");

    let mut group = c.benchmark_group("for every request");
    group.throughput(Throughput::Elements(1));
    group.bench_function(
        "control: start a hold, its first packet, stop it, two answers and three notifications",
        |b| {
            b.iter(|| {
                let start = read_start_hold_music(br#"{"clientContext":"d45324c1"}"#).expect("a context");
                desk.ask(Ask::StartHoldMusic { call, participant: who, start });
                let stop = read_stop_hold_music(b"").expect("nothing");
                desk.ask(Ask::StopHoldMusic { call, participant: who, stop })
            });
        },
    );
    let offer = serde_json::json!({ "sdp": SDP }).to_string();
    group.bench_function("control: an SDP offer read and answered, in mid-call", |b| {
        b.iter(|| {
            let offer = read_media_leg(offer.as_bytes()).expect("an offer");
            desk.ask(Ask::PutMediaLeg { call, participant: who, offer })
        });
    });
    group.finish();
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 111 101\r\n\
                   a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n\
                   a=ptime:20\r\na=rtcp-mux\r\na=sendrecv\r\n";

/// Control, and doors that answer at once.
struct Desk {
    control: Control,
    now: Now,
    requests: u64,
    caller: Arc<Caller>,
}

impl Desk {
    fn new() -> Self {
        let local = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 20_000));
        let settings = Settings { media_locals: vec![local], ..Settings::default() };
        Self {
            control: Control::new(settings, [1; 32]),
            now: at(MediaTime::from_millis(1000)),
            requests: 0,
            caller: Arc::new(Caller::by_static_token(Identity::new("bot", "tenant"), Limits::NONE)),
        }
    }

    /// The body of the answer.
    fn ask(&mut self, ask: Ask) -> String {
        self.requests += 1;
        self.now = at(self.now.mono + Duration::from_millis(1));
        let (request, accepted) = (RequestId(self.requests), self.now.mono);
        let (base, caller) = (Arc::from("https://host/v1.0"), Arc::clone(&self.caller));
        self.control.handle_input(self.now, Input::Request { request, accepted, base, caller, ask });
        let mut body = None;
        while let Some(output) = self.control.poll_output() {
            let input = match output {
                Output::Reply { result, .. } => {
                    body = result.expect("nothing is refused").body;
                    continue;
                }
                Output::Play { leg, source, .. } => Input::Started { leg, source, sent_at: self.now.mono },
                Output::Stop { leg } => {
                    Input::Stopped { leg, report: HoldReport::default(), next: numbering(1) }
                }
                Output::Notify { notification, .. } => {
                    Input::Delivered { notification, outcome: DeliveryOutcome::Accepted }
                }
                _ => continue,
            };
            self.control.handle_input(self.now, input);
        }
        body.expect("every request is answered with something")
    }
}

criterion_group!(benches, prepared_once, paid_per_packet, paid_per_request);
criterion_main!(benches);
