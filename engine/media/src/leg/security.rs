//! How a leg protects what it sends, and what it believes of what comes in: its keys at work. Its counters are part of its
//! numbering, since they must go on whatever the keys are.

use super::{Filled, Leg, LegSpec};
use crate::{
    keys::{Keying, MasterKey, Protection},
    protect::Protector,
    unprotect::Unprotector,
};

/// The keys of a leg at work.
#[derive(Debug, Default)]
pub(crate) enum Security {
    #[default]
    Plain,
    /// Keys are still to come: nothing is sent.
    Awaited,
    /// A box, since most legs have none, and so that keys are never moved.
    Srtp(Box<Secured>),
}

/// One SRTP session at work.
#[derive(Debug)]
pub(crate) struct Secured {
    /// What it was made of: by it is known whether keys have changed.
    keying: Keying,
    protector: Protector,
    /// For what receivers say; without a key of theirs nothing is believed.
    unprotector: Option<Unprotector>,
}

impl Secured {
    fn new(keying: &Keying) -> Box<Self> {
        let unprotector = keying.receive.as_ref().map(|key| Unprotector::new(key, keying.mki.clone()));
        Box::new(Self {
            keying: keying.clone(),
            protector: Protector::new(&keying.send, keying.mki.clone()),
            unprotector,
        })
    }

    /// Whether it is made of these keys.
    fn has(&self, keying: &Keying) -> bool {
        let Keying { send, receive, mki, rollover_counter: _, srtcp_index: _ } = &self.keying;
        (send, receive, mki) == (&keying.send, &keying.receive, &keying.mki)
    }
}

impl Leg {
    /// Its next packet is protected as `spec` says. What is left is to be dropped elsewhere.
    ///
    /// The counters of its numbering never go back, whichever keys come and go (RFC 3711 section 3.3.1): a key that comes
    /// again finds no index that it has had. Only keys that were waited for, or come where there were none, begin where they
    /// say: a handshake or an answer has made them, and makes none twice. A leg that is new may have had them in another life.
    pub(super) fn secure(&mut self, spec: &LegSpec, is_new: bool) -> Option<Security> {
        let secured = match &spec.protection {
            Protection::Srtp(keying) => {
                let next = self.packetizer.next();
                match &self.security {
                    Security::Srtp(secured) if secured.has(keying) => return None,
                    Security::Plain | Security::Awaited if !is_new && !keying.may_come_again() => {
                        let reached = (next.rollover_counter, next.sequence.0);
                        let (rolled, sequence) = reached.max((self.spent.0, self.spent.1));
                        self.spent = (rolled, sequence, next.srtcp_index.max(self.spent.2));
                        self.packetizer.set_counters(keying.rollover_counter, keying.srtcp_index);
                    }
                    _ => {
                        let (rolled, sequence, reported) = self.spent;
                        let rolled = rolled.saturating_add((next.sequence.0 < sequence).into());
                        self.packetizer.raise_counters(keying.rollover_counter, keying.srtcp_index);
                        self.packetizer.raise_counters(rolled, reported);
                    }
                }
                Security::Srtp(Secured::new(keying))
            }
            Protection::Plain => Security::Plain,
            Protection::Awaited => Security::Awaited,
        };
        Some(std::mem::replace(&mut self.security, secured))
    }

    /// Whether it sends nothing before its keys come.
    pub(super) fn awaits_keys(&self) -> bool {
        matches!(self.security, Security::Awaited)
    }

    /// Whether what comes in must be authentic.
    pub(crate) fn is_protected(&self) -> bool {
        !matches!(self.security, Security::Plain)
    }

    /// What its receivers protect with; `None` if that is not known, or not at all.
    pub(crate) fn receivers_key(&self) -> Option<&MasterKey> {
        match &self.security {
            Security::Srtp(secured) => secured.keying.receive.as_ref(),
            Security::Plain | Security::Awaited => None,
        }
    }

    /// Protects the packet in `datagram` that was filled as `filled` says. `false` if it cannot leave: the key may protect
    /// no more, or there is no room. Protected again, after other content was prepared and never left, it shares its index
    /// with nothing that anybody has seen.
    pub(crate) fn seal(&self, filled: &mut Filled, datagram: &mut [u8]) -> bool {
        let Security::Srtp(secured) = &self.security else { return true };
        let next = self.packetizer.next();
        // The last index is never used, so that the counter need not have a state for "all are spent".
        if next.rollover_counter == u32::MAX && next.sequence.0 == u16::MAX {
            return false;
        }
        let sealed = secured.protector.protect(datagram, filled.len, next.rollover_counter);
        sealed.is_ok_and(|len| {
            filled.sealed_len = len;
            true
        })
    }

    /// Likewise an RTCP compound of `len` bytes; its new length.
    pub(super) fn seal_rtcp(&self, len: usize, datagram: &mut [u8]) -> Option<usize> {
        match &self.security {
            Security::Plain => Some(len),
            Security::Awaited => None,
            Security::Srtp(secured) => {
                let index = self.packetizer.next().srtcp_index;
                // The last one is never used, as above.
                let usable = index < crate::protect::LAST_SRTCP_INDEX;
                usable.then(|| secured.protector.protect_rtcp(datagram, len, index).ok()).flatten()
            }
        }
    }

    /// Whether the RTP packet `datagram` is authentic and new: then it is readable.
    pub(crate) fn unseal(&mut self, datagram: &mut [u8]) -> bool {
        let Security::Srtp(secured) = &mut self.security else { return false };
        secured.unprotector.as_mut().is_some_and(|unprotector| unprotector.unprotect(datagram).is_ok())
    }

    /// Reads an RTCP compound that came in, in place; its length if a receiver of this leg has protected it, and it is
    /// heard for the first time.
    pub(crate) fn unseal_rtcp(&mut self, datagram: &mut [u8]) -> Option<usize> {
        let Security::Srtp(secured) = &mut self.security else { return None };
        let (len, _) = secured.unprotector.as_mut()?.unprotect_rtcp(datagram).ok()?;
        Some(len)
    }
}
