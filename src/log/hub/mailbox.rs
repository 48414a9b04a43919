//! The queue between the hub and one live listener.
//!
//! Invariants: a push never waits; a reader receives all events pushed before the end, then the end; an empty mailbox
//! keeps room for at most [`KEPT_EVENTS`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::{Delivery, Ended, lock};
use crate::config::SubscriberBuffer;
use crate::log::Frame;

/// Room for events that an empty mailbox keeps.
const KEPT_EVENTS: usize = 8;

pub(super) struct Mailbox {
    limits: SubscriberBuffer,
    state: Mutex<MailboxState>,
}

#[derive(Default)]
struct MailboxState {
    waiting: VecDeque<Delivery>,
    /// Bytes of the stored events in `waiting`.
    bytes: usize,
    ended: Option<Ended>,
    /// The task that waits for the next event.
    reader: Option<Waker>,
}

impl Mailbox {
    pub fn new(limits: SubscriberBuffer) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, MailboxState> {
        lock(&self.state)
    }

    /// Pushes a stored event, or ends the mailbox if the event finds no room. Answers with the reader to wake. One event
    /// of any size may wait alone.
    pub fn push_frame(&self, frame: &Arc<Frame>, most_bytes: usize) -> Option<Waker> {
        let (mut state, bytes) = (self.state(), frame.bytes.len());
        if state.ended.is_some() {
            return None;
        }
        let most_bytes = self.limits.bytes.min(most_bytes);
        let is_full = state.waiting.len() >= self.limits.events.max(1);
        if is_full || (state.bytes > 0 && state.bytes.saturating_add(bytes) > most_bytes) {
            state.ended = Some(Ended::TooSlow);
        } else {
            state.bytes += bytes;
            state.waiting.push_back(Delivery::Stored(Arc::clone(frame)));
        }
        state.reader.take()
    }

    /// Pushes an ephemeral event, which is lost if there is no room. Answers with the reader to wake.
    pub fn push_signal(&self, delivery: &Delivery) -> Option<Waker> {
        let mut state = self.state();
        if state.ended.is_some() || state.waiting.len() >= self.limits.events.max(1) {
            return None;
        }
        state.waiting.push_back(delivery.clone());
        state.reader.take()
    }

    /// Ends the mailbox after the events that wait, unless the mailbox has ended.
    pub fn close(&self) {
        let reader = {
            let mut state = self.state();
            state.ended.get_or_insert(Ended::Closed);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next event if there is one.
    pub fn pop(&self) -> Option<Delivery> {
        self.state().pop()
    }

    /// The next event, or why there is none any more.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Ended>> {
        let mut state = self.state();
        if let Some(delivery) = state.pop() {
            return Poll::Ready(Ok(delivery));
        }
        if let Some(ended) = state.ended {
            return Poll::Ready(Err(ended));
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl MailboxState {
    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.waiting.pop_front()?;
        if let Delivery::Stored(frame) = &delivery {
            self.bytes = self.bytes.saturating_sub(frame.bytes.len());
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_EVENTS {
            self.waiting = VecDeque::new();
        }
        Some(delivery)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::log::Signal;
    use crate::log::hub::tests::frame;

    fn next(mailbox: &Mailbox) -> Poll<Result<Delivery, Ended>> {
        mailbox.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn seq(delivery: Poll<Result<Delivery, Ended>>) -> u64 {
        match delivery {
            Poll::Ready(Ok(Delivery::Stored(frame))) => frame.seq.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_mailbox_ends_after_what_waits() {
        let two_frames = 2 * frame(1, 1, 300).bytes.len();
        for (events, bytes) in [(2, 1 << 20), (100, two_frames)] {
            let mailbox = Mailbox::new(SubscriberBuffer { events, bytes });
            assert!(next(&mailbox).is_pending());
            let reader = mailbox.push_frame(&frame(1, 1, 300), usize::MAX);
            assert!(reader.is_some(), "the first event wakes the reader");
            for seq in 2..=4 {
                assert!(mailbox.push_frame(&frame(1, seq, 300), usize::MAX).is_none());
            }
            assert_eq!([seq(next(&mailbox)), seq(next(&mailbox))], [1, 2]);
            assert!(matches!(next(&mailbox), Poll::Ready(Err(Ended::TooSlow))));
            mailbox.push_frame(&frame(1, 5, 1), usize::MAX);
            assert!(matches!(next(&mailbox), Poll::Ready(Err(Ended::TooSlow))), "nothing follows the end");
        }
    }

    #[test]
    fn one_event_of_any_size_may_wait_alone() {
        let mailbox = Mailbox::new(SubscriberBuffer { events: 9, bytes: 100 });
        mailbox.push_frame(&frame(1, 1, 5_000), 10);
        assert_eq!(seq(next(&mailbox)), 1);
        mailbox.push_frame(&frame(1, 2, 5_000), 10);
        assert_eq!(seq(next(&mailbox)), 2);
        assert!(next(&mailbox).is_pending());
    }

    #[test]
    fn a_signal_without_room_is_lost_and_ends_nothing() {
        let mailbox = Mailbox::new(SubscriberBuffer { events: 1, bytes: 100 });
        let signal = Signal::new("#cursor", &serde_json::json!({})).unwrap();
        let delivery = Delivery::Ephemeral(Arc::new(signal));
        mailbox.push_signal(&delivery);
        mailbox.push_signal(&delivery);
        assert!(matches!(next(&mailbox), Poll::Ready(Ok(Delivery::Ephemeral(_)))));
        assert!(next(&mailbox).is_pending());
    }

    #[test]
    fn an_empty_mailbox_keeps_no_room_for_many_events() {
        let mailbox = Mailbox::new(SubscriberBuffer { events: 500, bytes: 1 << 20 });
        for seq in 1..=500 {
            mailbox.push_frame(&frame(1, seq, 10), usize::MAX);
        }
        while mailbox.pop().is_some() {}
        let state = mailbox.state();
        assert!(state.bytes == 0 && state.waiting.capacity() <= KEPT_EVENTS, "{}", state.waiting.capacity());
    }
}
