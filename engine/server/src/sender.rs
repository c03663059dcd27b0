//! A sender: the thread that empties rings. It is a loop around a [`Pacer`]: obey, prepare, wait, send, tell.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use crossbeam_channel::{Sender, TrySendError};
use holdmusic_media::{
    MediaTime,
    pacer::{Event, Pacer},
};

use rustix::thread::{CpuSet, sched_setaffinity};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tracing::{info, warn};

use crate::{
    clock,
    mailbox::{Orders, Tiding, ToPeers},
    metrics::SenderCounts,
    peers::is_for_peers,
    udp::MediaSocket,
};

/// Commands obeyed before a slot; the rest waits a millisecond, and no packet waits for them.
const COMMANDS_AT_ONCE: usize = 64;

/// Datagrams and errors taken from the socket before anything else is done again.
const DATAGRAMS_AT_ONCE: usize = 64;

/// How often as many are taken before a slot, if more are there and time is left: a thousand, so that a flood drowns little of
/// what matters, and takes a tenth of a core at most (fifty thousand a second).
const ROUNDS_OF_DATAGRAMS: u32 = 16;

/// So long before a slot no more are taken: a round takes a tenth of it.
const UNDISTURBED: Duration = Duration::from_millis(2);

/// Real-time priority of a sender, 1 to 99: ahead of everything that has none, behind what an operator set on purpose.
const REALTIME_PRIORITY: u8 = 10;

/// A sender without legs looks around so often, for what has come in meanwhile.
const IDLE: Duration = Duration::from_secs(1);

/// A sender that has legs, none of which plays, looks around so often: a browser that connects to one of them sends four
/// datagrams, each when the one before has been answered.
const IDLE_WITH_LEGS: Duration = Duration::from_millis(10);

/// What a sender has before others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Precedence {
    /// Real-time priority.
    pub realtime: bool,
    /// A processor of its own, or at least the same one always.
    pub cpu: Option<usize>,
}

/// Runs until nobody commands it any more, with the precedence that the system allows.
pub fn run(
    mut pacer: Pacer,
    socket: &MediaSocket,
    mut commands: Orders,
    tidings: &Sender<Tiding>,
    peers: &ToPeers,
    counts: &Arc<SenderCounts>,
    precedence: Precedence,
) {
    // One nanosecond instead of fifty microseconds: the kernel then does not wait for other timers.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    if let Some(cpu) = precedence.cpu {
        stay_on(cpu);
    }
    if precedence.realtime {
        go_ahead_of_others();
    }
    let mut untold = None;
    let mut datagram = [0; 1500];
    let mut rounds = 0;
    loop {
        for _ in 0..COMMANDS_AT_ONCE {
            let Ok(command) = commands.pop() else { break };
            pacer.handle_command(clock::now(), command);
        }
        if commands.is_abandoned() && commands.is_empty() {
            return;
        }
        pacer.send_goodbyes(&mut &*socket);
        let mut received = 0;
        while received < DATAGRAMS_AT_ONCE
            && let Some((bytes, from)) = socket.receive(&mut datagram)
        {
            received += 1;
            if !is_for_peers(bytes) {
                pacer.handle_datagram(clock::now(), from, bytes);
            } else if peers.pass(from, bytes).is_err() {
                counts.lose_peer_datagram();
            }
        }
        for _ in 0..DATAGRAMS_AT_ONCE {
            let Some(destination) = socket.unreachable() else { break };
            pacer.handle_unreachable(clock::mono(), destination);
        }
        tell(&mut pacer, tidings, &mut untold);
        let (legs, playing) = pacer.legs();
        counts.set_legs(legs, playing);

        let now = clock::now();
        counts.round(now.mono);
        let deadline = pacer.prepare(now);
        let more = received == DATAGRAMS_AT_ONCE && rounds < ROUNDS_OF_DATAGRAMS;
        if more && deadline.since(now.mono) > UNDISTURBED {
            rounds += 1;
            continue;
        }
        rounds = 0;
        let idle = if legs > 0 { IDLE_WITH_LEGS } else { IDLE };
        let Some(woke) = wait(&mut pacer, &mut commands, deadline, idle) else { continue };
        pacer.send(woke, &mut &*socket);
        let served = pacer.settle(woke, clock::mono());
        counts.add(&served);
        tell(&mut pacer, tidings, &mut untold);
    }
}

/// Keeps this thread on one processor, so that its legs stay in that one's cache. Where that is not allowed, or there is
/// no such processor, one line says so.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        warn!(cpu, %error, "a sender cannot have this processor and goes where the system sends it");
    }
}

/// Asks for real-time scheduling: a packet cannot wait for other people's work. A sender sleeps between its slots, so it
/// keeps nobody from working. Where it is not allowed (neither root nor CAP_SYS_NICE nor RLIMIT_RTPRIO) one line says so.
fn go_ahead_of_others() {
    let priority = ThreadPriority::try_from(REALTIME_PRIORITY).expect("below 100");
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, policy) {
        info!(?error, "no real-time priority: packets may be late while the machine is busy otherwise");
    }
}

/// Waits for `deadline`, and says when that was over; `None` if something else comes first. A command comes with a wake-up
/// ([`crate::mailbox::Commander`]), so one sleep serves both, and nobody spins.
fn wait(pacer: &mut Pacer, commands: &mut Orders, deadline: MediaTime, idle: Duration) -> Option<MediaTime> {
    loop {
        let now = clock::mono();
        if now >= deadline {
            return Some(now);
        }
        if let Ok(command) = commands.pop() {
            pacer.handle_command(clock::now(), command);
            return None;
        }
        if commands.is_abandoned() {
            // The loop will find the same, and end.
            return None;
        }
        if deadline == MediaTime::NEVER {
            clock::park(idle);
            return None;
        }
        clock::park(deadline.since(now));
    }
}

/// Tells control what happened, as far as its mailbox has room; the rest stays with the pacer.
fn tell(pacer: &mut Pacer, tidings: &Sender<Tiding>, untold: &mut Option<Event>) {
    while let Some(event) = untold.take().or_else(|| pacer.poll_event()) {
        match tidings.try_send(Tiding::Media(event)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(Tiding::Media(event))) => {
                *untold = Some(event);
                return;
            }
            Err(TrySendError::Full(_)) => return,
        }
    }
}
