//! [`Room`]: memory that prompts may take while they are prepared, lent out from one stock for all of them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for all prompts that are being prepared, in MiB. The largest that the limits allow, 172.8 million samples from
/// 256 MiB, takes 1280 while it is decoded into a growing row. A minute of 48 kHz mono takes 17, so that there is room
/// for a hundred and twenty.
pub const MEMORY_MIB: usize = 2_048;

const MIB: usize = 1 << 20;

/// The stock.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Semaphore>);

impl Memory {
    /// A stock of so many MiB.
    pub fn new(mib: usize) -> Self {
        Self(Arc::new(Semaphore::new(mib)))
    }

    /// What one prompt has of it: nothing yet.
    pub fn room(&self) -> Room {
        Room { stock: Arc::clone(&self.0), held: None }
    }

    /// MiB that nobody holds.
    pub fn free_mib(&self) -> usize {
        self.0.available_permits()
    }
}

/// What one prompt has of the stock; given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    stock: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Makes it what `bytes` need, more or less than it was. `false` if the stock has not so much; then it stays as it
    /// was.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        let wanted = bytes.div_ceil(MIB);
        let has = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted > has {
            let Ok(missing) = u32::try_from(wanted - has) else { return false };
            let Ok(more) = Arc::clone(&self.stock).try_acquire_many_owned(missing) else { return false };
            match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            }
        } else if let Some(held) = &mut self.held {
            drop(held.split(has - wanted));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_prompt_holds_another_cannot_have_until_it_is_given_back() {
        let memory = Memory::new(10);
        let (mut one, mut other) = (memory.room(), memory.room());
        assert!(one.hold(4 * MIB + 1));
        assert_eq!(memory.free_mib(), 5);
        assert!(other.hold(5 * MIB) && !other.hold(5 * MIB + 1));
        assert!(one.hold(0));
        assert!(other.hold(9 * MIB));
        drop(other);
        assert_eq!(memory.free_mib(), 10);
        assert!(!one.hold(usize::MAX));
    }
}
