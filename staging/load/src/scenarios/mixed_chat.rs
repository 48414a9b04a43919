//! 64 devices in conversations of four, each with a socket: of ten calls, two send a message, six move the account's read
//! position to the newest message, and two read the newest page of the conversation. A unit is a call.
//!
//! The server has no method for typing signals: a client that shows them sends them as messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rookery::lexicon::mls::get_messages::{self, GetMessages};
use rookery::lexicon::mls::update_cursor::{self, UpdateCursor};
use rookery_testkit::Person;
use tokio::task::JoinSet;

use super::groups::crowd;
use super::{Bench, Scenario};
use crate::meter::Meter;
use crate::report::{Row, as_f64};
use crate::senders::{Sender, Sent};
use crate::sockets::{self, Socket};

pub const SCENARIO: Scenario = Scenario::new(NAME, &[NAME], |bench| Box::pin(run(bench)));

const NAME: &str = "mixed-chat";
const MEMBERS: usize = 4;
/// Messages of the page that a client reads when it opens a conversation.
const PAGE: u64 = 50;
/// Messages that were sent reach the sockets within this time.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// What the members of one conversation share.
struct Chat {
    stream: String,
    /// The seq of its newest message, as far as its members heard.
    newest: AtomicU64,
}

#[derive(Clone, Copy)]
enum Call {
    Send,
    ReadOn,
    OpenConversation,
}

const CALLS: [Call; 10] = [
    Call::Send,
    Call::ReadOn,
    Call::ReadOn,
    Call::ReadOn,
    Call::OpenConversation,
    Call::Send,
    Call::ReadOn,
    Call::ReadOn,
    Call::ReadOn,
    Call::OpenConversation,
];

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(NAME).await?;
    let mut members: Vec<(Arc<Sender>, Arc<Chat>)> = Vec::new();
    for _ in 0..bench.run.senders.div_ceil(MEMBERS) {
        let group = crowd(&stage, MEMBERS).await?;
        let stream = group.first().and_then(|member| member.stream()).context("a member without a conversation")?;
        let chat = Arc::new(Chat { stream: stream.to_owned(), newest: AtomicU64::new(0) });
        members.extend(group.into_iter().map(|member| (member, Arc::clone(&chat))));
    }
    let (delivered, mut listeners) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for (number, (member, _)) in members.iter().enumerate() {
        let person: &[Arc<Person>] = std::slice::from_ref(member.person());
        let socket = sockets::open(person, 1, number, None).await?.pop().context("no socket")?;
        listeners.spawn(count_messages(socket, Arc::clone(&delivered)));
    }
    let meter = Meter::begin(&stage, &bench.postgres).await?;
    let (began, mut chatting) = (Instant::now(), JoinSet::new());
    for (number, (member, chat)) in members.iter().enumerate() {
        let (member, chat, time) = (Arc::clone(member), Arc::clone(chat), bench.run.duration());
        chatting.spawn(async move {
            let (mut latencies, mut sent) = (Vec::new(), 0);
            // The devices begin at different calls.
            for call in CALLS.iter().cycle().skip(number % CALLS.len()) {
                if began.elapsed() >= time {
                    break;
                }
                let at = Instant::now();
                make(*call, &member, &chat).await?;
                latencies.push(at.elapsed());
                sent += usize::from(matches!(call, Call::Send));
            }
            Ok::<_, anyhow::Error>((latencies, sent))
        });
    }
    let (mut latencies, mut sent) = (Vec::new(), 0);
    while let Some(device) = chatting.join_next().await {
        let (of_device, sent_by_device) = device.context("a device panicked")??;
        latencies.extend(of_device);
        sent += sent_by_device;
    }
    let (lasted, expected) = (began.elapsed(), sent * MEMBERS);
    let arriving = async {
        while delivered.load(Ordering::Relaxed) < expected {
            ensure!(listeners.try_join_next().is_none(), "a listener ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    tokio::time::timeout(ARRIVES_WITHIN, arriving).await.context("messages did not arrive in time")??;
    latencies.sort_unstable();
    let row = meter.row(NAME, members.len(), Sent { latencies, lasted }).await?;
    listeners.shutdown().await;
    stage.stop().await?;
    let per_call = as_f64(expected) / as_f64(row.units.max(1));
    Ok(vec![Row { figures: vec![("deliveries_per_unit", Some(per_call))], ..row }])
}

/// Counts the messages that a socket gives, until the socket fails.
async fn count_messages(mut socket: Socket, delivered: Arc<AtomicUsize>) -> anyhow::Result<()> {
    loop {
        if socket.event().await?.kind == "#message" {
            delivered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn make(call: Call, member: &Sender, chat: &Chat) -> anyhow::Result<()> {
    let stream = chat.stream.clone();
    match call {
        Call::Send => {
            let seq = member.send(0).await?.seq;
            chat.newest.fetch_max(seq, Ordering::Relaxed);
        }
        Call::ReadOn => {
            let seq = chat.newest.load(Ordering::Relaxed);
            member.person().procedure::<UpdateCursor>(&update_cursor::Input { stream, seq }).await?;
        }
        Call::OpenConversation => {
            let before_seq = Some(chat.newest.load(Ordering::Relaxed) + 1);
            let params = get_messages::Params { stream, after_seq: None, before_seq, kinds: None, limit: PAGE };
            member.person().query::<GetMessages>(&params).await?;
        }
    }
    Ok(())
}
