//! Lets all processes stop after the same step, without waiting for each other in it: the wish that a process sends
//! before one step is read by all before the next.
use std::{sync::PoisonError, time::Duration};

use heterodyne_shim::ranks::Message;

use super::World;
use crate::Result;

/// How often a process tells the others that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// The processes' wishes to stop.
pub struct Agreement<'a> {
    world: &'a World,
    sent: Option<Message>,
}

impl<'a> Agreement<'a> {
    /// No wish yet.
    #[must_use]
    pub fn new(world: &'a World) -> Self {
        Self { world, sent: None }
    }

    /// Whether all stop now, before `step`; `wish` is this process's own wish. All processes must call it equally
    /// often.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn stops(&mut self, wish: bool, step: u64) -> Result<bool> {
        let Some(member) = &self.world.0 else { return Ok(wish) };
        let mut told = member.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= BEAT {
            *told = std::time::Instant::now();
            member.beat(step)?;
        }
        let wishes = self.sent.take().map(Message::received).transpose()?;
        if wishes.is_some_and(|wishes| wishes.contains(&1)) {
            return Ok(true);
        }
        self.sent = Some(member.group.send(i32::from(wish))?);
        Ok(false)
    }

    /// Waits for the others' last wishes, so that no process ends before its messages have arrived.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn finish(&mut self) -> Result<()> {
        self.sent.take().map(Message::received).transpose()?;
        Ok(())
    }
}
