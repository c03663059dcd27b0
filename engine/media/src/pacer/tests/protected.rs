//! Protected legs: what leaves can be read by who has the key, no index comes twice with other content, and only who has
//! the receivers' key is believed.

use std::collections::BTreeMap;

use super::*;
use crate::{
    keys::{Keying, MasterKey, Mki, Suite},
    protect::Protector,
    unprotect::{UnprotectError, Unprotector},
};

/// Every datagram as it is, with its destination.
#[derive(Default)]
struct Raw {
    sent: Vec<(SocketAddr, Vec<u8>)>,
    /// What the network refused, with what it left.
    refused: Vec<Vec<u8>>,
    refuses: bool,
}

impl Sink for Raw {
    fn send(&mut self, batch: &Batch, refused: &mut Vec<usize>) {
        for index in 0..batch.len() {
            let (bytes, to) = batch.datagram(index);
            if self.refuses {
                refused.push(index);
                self.refused.push(bytes.to_vec());
            } else {
                self.sent.push((to, bytes.to_vec()));
            }
        }
    }
}

/// Runs the loop of a sender thread.
fn run_raw(pacer: &mut Pacer, raw: &mut Raw, now: &mut MediaTime, until: MediaTime) -> Vec<Event> {
    let mut events = vec![];
    loop {
        events.extend(std::iter::from_fn(|| pacer.poll_event()));
        let due = pacer.prepare(at(*now));
        if due >= until {
            *now = until;
            events.retain(|event| !matches!(event, Event::Retired(_)));
            return events;
        }
        *now = due.max(*now);
        pacer.send(*now, raw);
        pacer.settle(*now, *now);
    }
}

fn key(suite: Suite, byte: u8) -> MasterKey {
    MasterKey::new(suite, &vec![byte; suite.master_len()]).unwrap()
}

fn keying(suite: Suite, byte: u8) -> Keying {
    let receive = Some(key(suite, byte + 100));
    Keying { send: key(suite, byte), receive, mki: None, rollover_counter: 0, srtcp_index: 0 }
}

fn protected_spec(number: u16, keying: &Keying) -> Box<LegSpec> {
    Box::new(LegSpec { protection: Protection::Srtp(Box::new(keying.clone())), ..*spec(number) })
}

fn start_protected(pacer: &mut Pacer, now: MediaTime, number: u16, keying: &Keying) {
    let leg = LegId(u64::from(number));
    pacer.handle_command(at(now), Command::AddLeg { leg, spec: protected_spec(number, keying) });
    pacer.handle_command(at(now), Command::Play { leg, music: music(1, 7), numbering: None, since: None });
}

/// Hears everything: payloads of RTP with their index of 48 bits, and compounds of RTCP with theirs.
#[derive(Default)]
struct Heard {
    rtp: Vec<(u64, Header, Vec<u8>)>,
    rtcp: Vec<(u32, Vec<u8>)>,
}

fn hear(sent: &[(SocketAddr, Vec<u8>)], unprotector: &mut Unprotector) -> Heard {
    let mut heard = Heard::default();
    for (_, datagram) in sent {
        let mut datagram = datagram.clone();
        if rtcp::is_rtcp(&datagram) {
            let (len, index) = unprotector.unprotect_rtcp(&mut datagram).unwrap();
            heard.rtcp.push((index, datagram[..len].to_vec()));
        } else {
            let (len, index) = unprotector.unprotect(&mut datagram).unwrap();
            let (header, payload) = Header::read(&datagram[..len]).unwrap();
            heard.rtp.push((index, header, payload.to_vec()));
        }
    }
    heard
}

/// Through the sequence's turn, a pause between two holds, and to the goodbye.
#[test]
fn who_has_the_key_hears_everything_and_every_index_once() {
    for suite in Suite::ALL {
        let keying = Keying { mki: Mki::new(9, 2), ..keying(suite, 1) };
        let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
        start_protected(&mut pacer, now, 1, &keying);
        run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(20_500));
        pacer.handle_command(at(now), Command::Stop { leg: LegId(1) });
        let told = run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(21_500));
        let stopped = told.iter().find_map(|event| match event {
            Event::Stopped { next, .. } => Some(*next),
            _ => None,
        });
        let play = Command::Play { leg: LegId(1), music: music(2, 7), numbering: None, since: None };
        pacer.handle_command(at(now), play);
        run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(22_500));
        pacer.handle_command(at(now), Command::RemoveLeg { leg: LegId(1) });
        let told = run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(22_600));
        pacer.send_goodbyes(&mut raw);
        let mut unprotector = Unprotector::new(&keying.send, keying.mki.clone());
        let heard = hear(&raw.sent, &mut unprotector);
        for (number, (index, header, payload)) in heard.rtp.iter().enumerate() {
            assert_eq!(*index, 65_530 + number as u64, "{}", suite.name());
            assert_eq!(header.ssrc, Ssrc(0x1001));
            assert_eq!(payload.len(), 1);
        }
        assert_eq!(heard.rtp.len(), 1000 + 50);
        assert_eq!(stopped.map(|next| (next.rollover_counter, next.sequence)), Some((1, SeqNo(994))));
        assert!(heard.rtcp.len() > 3);
        for (number, (index, compound)) in heard.rtcp.iter().enumerate() {
            assert_eq!(*index as usize, number);
            let mut byes = 0;
            rtcp::read(compound, |word| byes += usize::from(word == Word::Bye(Ssrc(0x1001))));
            assert_eq!(byes, usize::from(number + 1 == heard.rtcp.len()), "the last is a goodbye");
        }
        let Some(Event::Stopped { next, .. }) = told.first() else { panic!("{told:?}") };
        assert_eq!(next.srtcp_index as usize, heard.rtcp.len());
        assert!(
            raw.sent.iter().all(|(_, datagram)| datagram.windows(2).any(|pair| pair == [0, 9])),
            "the MKI"
        );
    }
}

/// Whatever is refused, put off or asked in between: what was handed to the network with one index is one content.
#[test]
fn no_index_is_handed_to_the_network_with_two_contents() {
    let keying = keying(Suite::AeadAes128Gcm, 1);
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    start_protected(&mut pacer, now, 1, &keying);
    for round in 0..400u64 {
        raw.refuses = round % 3 == 0;
        if round % 7 == 0 {
            // What was prepared is stale.
            pacer.prepare(at(now));
            let spec = LegSpec { destination: destination(2), ..*protected_spec(1, &keying) };
            pacer.handle_command(at(now), Command::ChangeLeg { leg: LegId(1), spec: Box::new(spec) });
        }
        if round % 11 == 0 {
            // Too late: it is never sent.
            let due = pacer.prepare(at(now));
            let late = due + Duration::from_millis(25);
            pacer.send(late, &mut raw);
            pacer.settle(late, late);
            now = late;
        }
        let until = now + Duration::from_millis(20 + round);
        run_raw(&mut pacer, &mut raw, &mut now, until);
    }
    let mut unprotector = Unprotector::new(&keying.send, None);
    let mut contents = BTreeMap::new();
    let mut place = |datagram: &[u8]| {
        let place = if rtcp::is_rtcp(datagram) {
            (datagram[..8].to_vec(), datagram[datagram.len() - 4..].to_vec())
        } else {
            // The sequence number, since it comes round once here.
            (datagram[8..12].to_vec(), datagram[2..4].to_vec())
        };
        let before = contents.insert(place, datagram.to_vec());
        assert!(before.is_none_or(|before| before == datagram), "another content at the same place");
    };
    raw.sent.iter().for_each(|(_, datagram)| place(datagram));
    raw.refused.iter().for_each(|datagram| place(datagram));
    assert!(raw.refused.len() > 500);
    hear(&raw.sent, &mut unprotector);
}

#[test]
fn other_keys_take_effect_at_the_next_packet_and_counters_go_on() {
    let (first, second) = (keying(Suite::AesCm128HmacSha1_80, 1), keying(Suite::AeadAes256Gcm, 2));
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    start_protected(&mut pacer, now, 1, &first);
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(5_500));
    let before = hear(&std::mem::take(&mut raw.sent), &mut Unprotector::new(&first.send, None));
    // The same again changes nothing.
    for keying in [&first, &second] {
        let change = Command::ChangeLeg { leg: LegId(1), spec: protected_spec(1, keying) };
        pacer.handle_command(at(now), change);
    }
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(10_500));
    let mut unprotector = Unprotector::new(&second.send, None);
    unprotector.set_rollover_counter(1);
    let after = hear(&raw.sent, &mut unprotector);
    assert_eq!(after.rtp[0].0, before.rtp.last().unwrap().0 + 1);
    assert_eq!(after.rtcp[0].0, before.rtcp.last().unwrap().0 + 1);
    assert!(!after.rtp[0].1.marker, "the hold goes on");
    // And back to none.
    let change = Command::ChangeLeg { leg: LegId(1), spec: spec(1) };
    pacer.handle_command(at(now), change);
    raw.sent.clear();
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(10_540));
    assert!(raw.sent.iter().all(|(_, datagram)| datagram.len() == HEADER_LEN + 1));
}

/// A phone whose call becomes a secure one in the middle: its receiver begins at 0, however often the numbers have come round
/// before.
#[test]
fn new_keys_where_there_were_none_begin_where_they_say() {
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    let leg = LegId(1);
    pacer.handle_command(at(now), Command::AddLeg { leg, spec: spec(1) });
    pacer.handle_command(at(now), Command::Play { leg, music: music(1, 7), numbering: None, since: None });
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(5_500));
    raw.sent.clear();
    let keying = keying(Suite::AesCm128HmacSha1_80, 1);
    assert!(!keying.may_come_again());
    pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: protected_spec(1, &keying) });
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(10_500));
    let heard = hear(&raw.sent, &mut Unprotector::new(&keying.send, None));
    assert_eq!((heard.rtp[0].0, heard.rtp.len()), (65_530 + 250 - 65_536, 250));
    assert_eq!(heard.rtcp[0].0, 0);
}

#[test]
fn nothing_is_sent_before_keys_that_are_waited_for_have_come() {
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    let leg = LegId(1);
    let awaited = Box::new(LegSpec { protection: Protection::Awaited, ..*spec(1) });
    pacer.handle_command(at(now), Command::AddLeg { leg, spec: awaited });
    pacer.handle_command(at(now), Command::Play { leg, music: music(1, 7), numbering: None, since: None });
    let told = run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(5_500));
    assert!(raw.sent.is_empty() && told.is_empty(), "{told:?}");
    let keying = Keying { rollover_counter: 4, srtcp_index: 7, ..keying(Suite::AeadAes128Gcm, 1) };
    pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: protected_spec(1, &keying) });
    let told = run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(10_500));
    assert!(matches!(told[0], Event::Started { .. }), "{told:?}");
    let mut unprotector = Unprotector::new(&keying.send, None);
    unprotector.set_rollover_counter(4);
    let heard = hear(&raw.sent, &mut unprotector);
    assert_eq!((heard.rtp[0].0, heard.rtcp[0].0), (4 << 16 | 65_530, 7));
    assert_eq!(heard.rtp[0].2, [0], "the music begins now");
    // Without keys it says no goodbye either.
    let awaited = Box::new(LegSpec { protection: Protection::Awaited, ..*spec(1) });
    pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: awaited });
    pacer.handle_command(at(now), Command::RemoveLeg { leg });
    raw.sent.clear();
    pacer.send_goodbyes(&mut raw);
    assert!(raw.sent.is_empty());
}

/// A key that a customer gave, then a browser's, which counts from the beginning, then the first one again.
#[test]
fn a_key_that_comes_again_finds_no_index_that_it_has_had() {
    let send = key(Suite::AeadAes256Gcm, 1);
    let given =
        Keying { send: send.clone(), receive: Some(send), mki: None, rollover_counter: 0, srtcp_index: 0 };
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    start_protected(&mut pacer, now, 1, &given);
    let mut hears = Unprotector::new(&given.send, None);
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(20_500));
    hear(&raw.sent, &mut hears);
    for browser in 10..13 {
        let leg = LegId(1);
        let awaited = Box::new(LegSpec { protection: Protection::Awaited, ..*spec(1) });
        pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: awaited.clone() });
        if browser > 10 {
            let browsers = keying(Suite::AeadAes256Gcm, browser);
            pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: protected_spec(1, &browsers) });
            raw.sent.clear();
            let until = now + Duration::from_secs(12);
            run_raw(&mut pacer, &mut raw, &mut now, until);
            let heard = hear(&raw.sent, &mut Unprotector::new(&browsers.send, None));
            assert!(heard.rtp[0].0 < 1 << 16, "it begins with the roll-over counter 0");
            pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: awaited });
        }
        pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: protected_spec(1, &given) });
        raw.sent.clear();
        let until = now + Duration::from_secs(12);
        run_raw(&mut pacer, &mut raw, &mut now, until);
        let heard = hear(&raw.sent, &mut hears);
        assert!(heard.rtp.len() > 500 && heard.rtcp.len() > 1, "none was taken for one that came before");
    }
}

/// Numbers of a customer who does not know what has been sent since he was told.
#[test]
fn other_numbers_lead_a_key_back_to_no_index() {
    let keying = keying(Suite::AeadAes128Gcm, 1);
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    start_protected(&mut pacer, now, 1, &keying);
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(9_500));
    let numbering = Some(Numbering { at: now, ..spec(1).numbering });
    let play = Command::Play { leg: LegId(1), music: music(2, 7), numbering, since: None };
    pacer.handle_command(at(now), play);
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(19_500));
    let heard = hear(&raw.sent, &mut Unprotector::new(&keying.send, None));
    assert!(heard.rtp.len() > 900 && heard.rtcp.len() > 2);
}

/// The last packet that a key may protect has been: the leg is silent and does not come round.
#[test]
fn behind_the_last_index_nothing_is_sent() {
    let keying = keying(Suite::AesCm128HmacSha1_32, 1);
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    let mut spec = protected_spec(1, &keying);
    spec.numbering = Numbering {
        sequence: SeqNo(65_530),
        rollover_counter: u32::MAX,
        srtcp_index: u32::MAX >> 1,
        ..spec.numbering
    };
    let leg = LegId(1);
    pacer.handle_command(at(now), Command::AddLeg { leg, spec });
    pacer.handle_command(at(now), Command::Play { leg, music: music(1, 7), numbering: None, since: None });
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(9_500));
    assert_eq!(raw.sent.len(), 5, "of six numbers the last is never used, and there is no report");
}

/// A report about leg `about`, and a goodbye, from a listener called 9.
fn words(about: u16, bye: bool) -> Vec<u8> {
    let mut datagram = vec![0x81, 201, 0, 7, 0, 0, 0, 9, 0, 0, 0x10, about as u8, 25, 0, 0, 2];
    datagram.extend([0, 0, 0, 7, 0, 0, 0, 96, 0, 0, 0, 0, 0, 0, 0, 0]);
    if bye {
        datagram.extend([0x81, 203, 0, 1, 0, 0, 0, 9]);
    }
    datagram
}

fn sealed(key: &MasterKey, index: u32, plain: &[u8]) -> Vec<u8> {
    let mut room = plain.to_vec();
    room.resize(plain.len() + protect::MAX_GROWTH, 0);
    let len = Protector::new(key, None).protect_rtcp(&mut room, plain.len(), index).unwrap();
    room.truncate(len);
    room
}

/// For each of these legs the quality that a stop tells, and whether a goodbye was told.
fn judged<const N: usize>(pacer: &mut Pacer, now: MediaTime, legs: [u16; N]) -> [(Option<Quality>, bool); N] {
    let legs = legs.map(|number| LegId(u64::from(number)));
    legs.iter().for_each(|leg| pacer.handle_command(at(now), Command::Stop { leg: *leg }));
    let told: Vec<_> = std::iter::from_fn(|| pacer.poll_event()).collect();
    legs.map(|leg| {
        let bye = told.iter().any(|event| matches!(event, Event::Bye { leg: gone } if *gone == leg));
        let quality = told.iter().find_map(|event| match event {
            Event::Stopped { leg: stopped, report, .. } if *stopped == leg => Some(report.quality),
            _ => None,
        });
        (quality.unwrap(), bye)
    })
}

#[test]
fn only_who_has_the_receivers_key_is_believed() {
    for suite in Suite::ALL {
        let (keying, other) = (keying(suite, 1), keying(suite, 50));
        let theirs = keying.receive.clone().unwrap();
        let said = |datagrams: &[(SocketAddr, Vec<u8>)]| {
            let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
            // Others on the same host, plain ones and one with another key.
            start(&mut pacer, now, 2);
            start_protected(&mut pacer, now, 3, &other);
            start_protected(&mut pacer, now, 1, &keying);
            run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(1_000));
            for (from, datagram) in datagrams {
                pacer.handle_datagram(at(now), *from, datagram);
            }
            let [(quality, bye), others @ ..] = judged(&mut pacer, now, [1, 2, 3]);
            assert_eq!(others, [(None, false); 2]);
            (quality.is_some(), bye)
        };
        let (here, elsewhere) = (destination(1), destination(77));
        assert_eq!(said(&[(here, words(1, true))]), (false, false), "not protected");
        assert_eq!(said(&[(here, sealed(&keying.send, 0, &words(1, true)))]), (false, false), "our own key");
        assert_eq!(said(&[(here, sealed(&theirs, 0, &words(1, true)))]), (true, true));
        assert_eq!(
            said(&[(elsewhere, sealed(&theirs, 0, &words(1, false)))]),
            (true, false),
            "from its host"
        );
        let stranger = SocketAddr::from(([127, 0, 0, 2], 4000));
        assert_eq!(said(&[(stranger, sealed(&theirs, 0, &words(1, true)))]), (false, false), "another host");
        // About a leg with another key nothing is believed.
        assert_eq!(said(&[(here, sealed(&theirs, 0, &words(3, false)))]), (false, false));
        assert_eq!(said(&[(here, sealed(&theirs, 0, &words(2, false)))]), (false, false));
    }
}

/// A goodbye that was recorded in an earlier hold ends no later one.
#[test]
fn what_was_heard_before_is_not_believed_again() {
    let keying = keying(Suite::AeadAes128Gcm, 1);
    let theirs = keying.receive.clone().unwrap();
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    start_protected(&mut pacer, now, 1, &keying);
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(1_000));
    let goodbye = sealed(&theirs, 4, &words(1, true));
    pacer.handle_datagram(at(now), destination(1), &goodbye);
    assert!(judged(&mut pacer, now, [1])[0].1);
    let play = Command::Play { leg: LegId(1), music: music(1, 7), numbering: None, since: None };
    pacer.handle_command(at(now), play);
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(2_000));
    pacer.handle_datagram(at(now), destination(1), &goodbye);
    assert_eq!(judged(&mut pacer, now, [1]), [(None, false)]);
    let mut unprotector = Unprotector::new(&theirs, None);
    let mut again = goodbye.clone();
    unprotector.unprotect_rtcp(&mut again).unwrap();
    assert_eq!(unprotector.unprotect_rtcp(&mut goodbye.clone()), Err(UnprotectError::Replayed));
}

/// Floods of invented RTCP for a host with many protected legs: none is believed, and plain legs beside them are judged as
/// ever.
#[test]
fn plain_legs_beside_protected_ones_are_judged_as_ever() {
    let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
    for number in 10..60 {
        start_protected(&mut pacer, now, number, &keying(Suite::AesCm128HmacSha1_80, number as u8));
    }
    start(&mut pacer, now, 1);
    run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(1_000));
    for byte in 0..200u8 {
        let mut flood = words(20, true);
        flood.resize(100, byte);
        pacer.handle_datagram(at(now), destination(20), &flood);
    }
    pacer.handle_datagram(at(now), destination(1), &words(1, true));
    let [(quality, bye), flooded] = judged(&mut pacer, now, [1, 20]);
    assert!(quality.is_some() && bye);
    assert_eq!(flooded, (None, false));
}

/// As plain legs do.
#[test]
fn protected_legs_are_sent_without_allocating() {
    struct Nowhere;
    impl Sink for Nowhere {
        fn send(&mut self, _: &Batch, _: &mut Vec<usize>) {}
    }
    let (mut pacer, mut now) = (pacer(), MediaTime::from_millis(500));
    for (number, suite) in (0u16..).zip(Suite::ALL.into_iter().cycle().take(40)) {
        start_protected(&mut pacer, now, number, &keying(suite, number as u8));
    }
    let mut kept = vec![];
    for _ in 0..2_000 {
        kept.extend(std::iter::from_fn(|| pacer.poll_event()));
        let due = pacer.prepare(at(now));
        now = now.max(due);
        let measured = allocation_counter::measure(|| {
            pacer.send(now, &mut Nowhere);
            pacer.settle(now, now);
        });
        assert_eq!((measured.count_total, measured.count_current), (0, 0));
    }
}

/// Whatever protects the leader, a follower is sent its payloads under its own keys, and nothing as long as it has none or
/// its leader waits for its own.
#[test]
fn a_follower_is_protected_by_keys_of_its_own_and_waits_for_them() {
    let (ours, theirs) = (keying(Suite::AesCm128HmacSha1_80, 1), keying(Suite::AeadAes256Gcm, 2));
    let secured = |keying: &Keying| Protection::Srtp(Box::new(keying.clone()));
    for (leader, follower) in [
        (Protection::Plain, secured(&theirs)),
        (secured(&ours), Protection::Plain),
        (secured(&ours), secured(&theirs)),
    ] {
        let (mut pacer, mut raw, mut now) = (pacer(), Raw::default(), MediaTime::from_millis(500));
        let of = |number, protection: &Protection| {
            Box::new(LegSpec { protection: protection.clone(), ..*spec(number) })
        };
        let (one, other) = (LegId(1), LegId(9));
        let change = |leg: LegId, number, protection: &Protection| Command::ChangeLeg {
            leg,
            spec: of(number, protection),
        };
        for command in [
            Command::AddLeg { leg: one, spec: of(1, &Protection::Awaited) },
            Command::AddLeg { leg: other, spec: of(9, &Protection::Awaited) },
            Command::Follow { leg: other, leader: one },
            Command::Play { leg: one, music: music(1, 7), numbering: None, since: None },
        ] {
            pacer.handle_command(at(now), command);
        }
        run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(600));
        assert!(raw.sent.is_empty(), "nobody has keys");
        pacer.handle_command(at(now), change(other, 9, &follower));
        run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(700));
        assert!(raw.sent.is_empty(), "the leader is sent nothing");
        pacer.handle_command(at(now), change(other, 9, &Protection::Awaited));
        pacer.handle_command(at(now), change(one, 1, &leader));
        run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(800));
        assert!(raw.sent.iter().all(|(to, _)| *to == destination(1)), "the follower waits");
        let before = raw.sent.len();
        pacer.handle_command(at(now), change(other, 9, &follower));
        run_raw(&mut pacer, &mut raw, &mut now, MediaTime::from_millis(1_200));
        let payloads = |number, protection: &Protection, keying: &Keying| -> Vec<Vec<u8>> {
            let theirs: Vec<_> = raw
                .sent
                .iter()
                .filter(|(to, bytes)| *to == destination(number) && !rtcp::is_rtcp(bytes))
                .cloned()
                .collect();
            match protection {
                Protection::Plain => {
                    theirs.iter().map(|(_, bytes)| Header::read(bytes).unwrap().1.to_vec()).collect()
                }
                _ => {
                    let mut unprotector = Unprotector::new(&keying.send, None);
                    hear(&theirs, &mut unprotector).rtp.into_iter().map(|(.., payload)| payload).collect()
                }
            }
        };
        let (led, followed) = (payloads(1, &leader, &ours), payloads(9, &follower, &theirs));
        assert_eq!((led.len(), followed.len()), (25, 20));
        assert_eq!(followed, led[5..], "{leader:?}, {follower:?}");
        assert!(before >= 5);
    }
}
