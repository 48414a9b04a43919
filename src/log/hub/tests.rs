//! Delivery to many listeners.

use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::state::tests::span;
use super::*;
use crate::config::SubscriberBuffer;
use crate::log::{Event, NamedKind};
use crate::types::{Hash, Seq, Term, UnixMillis};

const BUFFER: SubscriberBuffer = SubscriberBuffer { events: 4, bytes: 1 << 20 };

/// A message of this stream whose header has so many bytes; its cursor is its seq.
pub fn frame(stream_id: i64, seq: u64, bytes: usize) -> Arc<Frame> {
    let event = Event {
        cursor: Cursor::from_db(i64::try_from(seq).unwrap()),
        stream_id,
        stream: StreamId::of_genesis(b"genesis"),
        term: Term(1),
        seq: Seq(seq),
        kind: NamedKind::Known(crate::log::EntryKind::Message),
        hash: Hash::of(b"hash"),
        time: UnixMillis(0),
        header: vec![7; bytes],
        content: None,
        epoch: None,
    };
    Arc::new(event.into_frame().unwrap())
}

/// A live listener of an account and device of that number.
fn listen(hub: &Hub, number: i64) -> Subscription {
    let mailbox = Arc::new(Mailbox::new(BUFFER));
    let mut state = lock(&hub.state);
    let id = number.unsigned_abs();
    state.begin(id, number, number, CancellationToken::new());
    state.merge(&[span(1, number)]);
    let position = state.joins_at();
    state.go_live(id, Live { filter: Filter::default(), mailbox: Arc::clone(&mailbox), after: position });
    Subscription { mailbox, position }
}

/// A reader that is woken and looks at the hub.
struct Reader {
    hub: Arc<Hub>,
    woken: AtomicUsize,
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        assert!(self.hub.state.try_lock().is_ok(), "the hub wakes readers of frames under its lock");
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn every_listener_is_woken_once_for_many_frames() {
    let hub = Arc::new(Hub::new(Cursor::default()));
    let listeners = i64::try_from(LISTENERS_AT_ONCE).unwrap() * 2 + 1;
    let subscriptions: Vec<Subscription> = (1..=listeners).map(|number| listen(&hub, number)).collect();
    let reader = Arc::new(Reader { hub: Arc::clone(&hub), woken: AtomicUsize::new(0) });
    let waker = Waker::from(Arc::clone(&reader));
    let mut cx = std::task::Context::from_waker(&waker);
    for subscription in &subscriptions {
        assert!(subscription.mailbox.poll_next(&mut cx).is_pending());
    }
    hub.hand_out(&[frame(1, 1, 10), frame(1, 2, 10), frame(2, 3, 10)]);
    assert_eq!(reader.woken.load(Ordering::SeqCst), subscriptions.len());
    for mut subscription in subscriptions {
        let heard: Vec<u64> = std::iter::from_fn(|| subscription.next_now())
            .map(|delivery| match delivery {
                Delivery::Stored(frame) => frame.seq.0,
                Delivery::Ephemeral(signal) => panic!("{signal:?}"),
            })
            .collect();
        assert_eq!(heard, [1, 2]);
    }
    assert_eq!(hub.position(), Cursor::from_db(3));
}

#[tokio::test]
async fn a_stalled_listener_ends_and_the_others_go_on() {
    let hub = Hub::new(Cursor::default());
    let (mut stalled, mut good) = (listen(&hub, 1), listen(&hub, 2));
    for seq in 1..=10 {
        hub.hand_out(&[frame(1, seq, 10)]);
        assert!(matches!(good.next().await, Ok(Delivery::Stored(frame)) if frame.seq.0 == seq));
    }
    for seq in 1..=4 {
        assert!(matches!(stalled.next().await, Ok(Delivery::Stored(frame)) if frame.seq.0 == seq));
    }
    assert_eq!(stalled.next().await.unwrap_err(), Ended::TooSlow);
}

#[tokio::test]
async fn a_listener_joins_after_what_is_being_handed_out() {
    let hub = Hub::new(Cursor::default());
    let mut early = listen(&hub, 1);
    assert_eq!(hub.claim(Cursor::from_db(2), [1, 2].into_iter()), HashSet::from([1]));
    hub.hand_out(&[frame(1, 1, 10)]);
    let mut late = listen(&hub, 2);
    assert_eq!(late.position, Cursor::from_db(2));
    hub.hand_out(&[frame(1, 2, 10), frame(1, 3, 10)]);
    for seq in 1..=3 {
        assert!(matches!(early.next().await, Ok(Delivery::Stored(frame)) if frame.seq.0 == seq));
    }
    assert!(matches!(late.next().await, Ok(Delivery::Stored(frame)) if frame.seq.0 == 3));
}
